//! [`Random`]: the seam through which random bytes are reached.

use std::time::Duration;

/// A source of random bytes; tests give a seeded one.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// A random number.
    fn next_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// 16 random bytes, for ids.
    fn next_id(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }

    /// Half of `pause` at least, and all of it at most: those who failed together ask again one after the other.
    fn spread(&self, pause: Duration) -> Duration {
        // 53 random bits: from 0 to just below 1.
        let part = (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        pause.saturating_sub((pause / 2).mul_f64(part))
    }
}

/// The kernel's random source (`getrandom(2)`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => bytes = &mut bytes[n..],
                Err(rustix::io::Errno::INTR) => {}
                // getrandom without flags blocks until seeded and has no other failure.
                Err(e) => panic!("getrandom failed: {e}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives that byte for ever.
    struct Same(u8);

    impl Random for Same {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn pauses_are_spread_over_their_second_half() {
        let pause = Duration::from_secs(8);
        assert_eq!(Same(0).spread(pause), pause);
        let least = Same(0xff).spread(pause);
        assert!(least >= pause / 2 && least < pause / 2 + Duration::from_micros(1), "{least:?}");
        assert_eq!(Same(7).spread(Duration::ZERO), Duration::ZERO);
        let mut drawn: Vec<Duration> = (0..100).map(|_| SystemRandom.spread(pause)).collect();
        assert!(drawn.iter().all(|drawn| *drawn >= pause / 2 && *drawn <= pause), "{drawn:?}");
        drawn.sort();
        drawn.dedup();
        assert!(drawn.len() > 90, "{drawn:?}");
    }
}
