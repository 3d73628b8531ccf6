//! [`Glob`]: a pattern for names, as a shell has them.

/// `*` stands for any bytes, `?` for one, `[a-z]` for one of these, `[!a-z]` for one of the others, a
/// backslash takes the next byte as it is. A bracket that is not closed stands for itself.
pub struct Glob {
    parts: Vec<Part>,
}

enum Part {
    Any,
    One,
    Byte(u8),
    /// One of the ranges, or none of them.
    Of(Vec<(u8, u8)>, bool),
}

impl Glob {
    pub fn new(pattern: &[u8]) -> Self {
        let (mut parts, mut rest) = (Vec::new(), pattern);
        while let Some((first, behind)) = rest.split_first() {
            rest = behind;
            parts.push(match first {
                b'*' => Part::Any,
                b'?' => Part::One,
                b'\\' => match rest.split_first() {
                    Some((next, behind)) => {
                        rest = behind;
                        Part::Byte(*next)
                    }
                    None => Part::Byte(b'\\'),
                },
                b'[' => match class(rest) {
                    Some((part, behind)) => {
                        rest = behind;
                        part
                    }
                    None => Part::Byte(b'['),
                },
                byte => Part::Byte(*byte),
            });
        }
        Self { parts }
    }

    /// True when the whole name is what the pattern says. At worst it takes as long as both are long,
    /// multiplied.
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // Where to go on when what follows the last star does not fit.
        let mut star: Option<(usize, usize)> = None;
        loop {
            match (self.parts.get(part), name.get(at)) {
                (None, None) => return true,
                (Some(Part::Any), _) => {
                    star = Some((part, at));
                    part += 1;
                    continue;
                }
                (Some(wanted), Some(byte)) if wanted.is(*byte) => {
                    (part, at) = (part + 1, at + 1);
                    continue;
                }
                _ => {}
            }
            match star {
                Some((of_star, from)) if from < name.len() => {
                    star = Some((of_star, from + 1));
                    (part, at) = (of_star + 1, from + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn is(&self, byte: u8) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Byte(own) => *own == byte,
            Self::Of(ranges, others) => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte)) != *others
            }
        }
    }
}

/// What stands between brackets, and what is behind them.
fn class(text: &[u8]) -> Option<(Part, &[u8])> {
    let others = text.first().is_some_and(|b| matches!(b, b'!' | b'^'));
    let text = text.get(usize::from(others)..)?;
    // A bracket that comes first is one of the bytes.
    let end = 1 + text.get(1..)?.iter().position(|b| *b == b']')?;
    let (mut inside, behind) = (text.get(..end)?, text.get(end + 1..)?);
    let mut ranges = Vec::new();
    while let Some((from, rest)) = inside.split_first() {
        match rest {
            [b'-', to, rest @ ..] => {
                ranges.push((*from, *to));
                inside = rest;
            }
            rest => {
                ranges.push((*from, *from));
                inside = rest;
            }
        }
    }
    Some((Part::Of(ranges, others), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        let is = |pattern: &str, name: &str| Glob::new(pattern.as_bytes()).matches(name.as_bytes());
        for (pattern, name) in [
            ("*", ""),
            ("*.log", "a.log"),
            ("a*b*c", "a-b-b-c"),
            ("?[0-9]", "x7"),
            ("[!a-c]x", "dx"),
            ("[]x]", "]"),
            ("\\*", "*"),
            ("[", "["),
            ("**a", "a"),
            ("", ""),
        ] {
            assert!(is(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("?", ""),
            ("*.log", "a.log2"),
            ("a*b", "a-c"),
            ("[a-c]", "d"),
            ("[!a-c]", "b"),
            ("\\*", "x"),
            ("A", "a"),
        ] {
            assert!(!is(pattern, name), "{pattern} {name}");
        }
    }
}
