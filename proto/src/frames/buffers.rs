//! Large buffers that are used again. New memory is zeroed by the system, page by page or two megabytes at once, and
//! for buffers of a megabyte that takes longer than to fill them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

/// Buffers from this size on are kept.
pub const LARGE_BYTES: usize = 512 << 10;
/// Kept at once in a process, at most: some 16 MiB.
const KEPT_MAX: usize = 16;

// Guards that a buffer is taken once.
static KEPT: Mutex<VecDeque<Bytes>> = Mutex::new(VecDeque::new());

/// Notes that the memory of `bytes` may be used again once nobody has it any more. Small ones are left alone.
pub fn keep(bytes: &Bytes) {
    if bytes.len() < LARGE_BYTES {
        return;
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(bytes.clone());
}

/// A kept buffer that nobody has any more.
fn free() -> Option<BytesMut> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let free = kept.iter().position(Bytes::is_unique).and_then(|at| kept.remove(at));
    free.and_then(|bytes| bytes.try_into_mut().ok())
}

/// An empty buffer with room for `bytes`.
#[must_use]
pub fn take(bytes: usize) -> BytesMut {
    if bytes >= LARGE_BYTES
        && let Some(mut again) = free()
    {
        again.clear();
        // In what it has, also before its begin, wherever that is enough.
        again.reserve(bytes);
        return again;
    }
    BytesMut::with_capacity(bytes)
}

/// A buffer of `bytes` bytes that say nothing: zeros, or what was there before.
#[must_use]
pub fn filled(bytes: usize) -> BytesMut {
    if bytes >= LARGE_BYTES
        && let Some(mut again) = free()
    {
        again.resize(bytes, 0);
        return again;
    }
    BytesMut::zeroed(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_when_nobody_has_it() {
        // Nothing else of this process's tests keeps buffers of this size.
        let bytes = 3 << 20;
        let mut buffer = take(bytes);
        buffer.resize(bytes, 1);
        let first = buffer.as_ptr();
        let whole = buffer.freeze();
        let part = whole.slice(100..bytes - 100);
        keep(&part);
        drop(whole);
        let other = take(bytes);
        assert_ne!(other.as_ptr(), first, "somebody has it still");
        drop(part);
        let mut found = false;
        for _ in 0..KEPT_MAX {
            let again = filled(bytes - 200);
            assert_eq!(again.len(), bytes - 200);
            found |= (first..=first.wrapping_add(100)).contains(&again.as_ptr());
        }
        assert!(found);
    }

    #[test]
    fn small_ones_are_not_kept() {
        let small = Bytes::from(vec![1; 100]);
        keep(&small);
        assert!(small.is_unique());
        assert!(take(100).capacity() >= 100);
    }
}
