//! A Rust source as the rules see it: comments and literals blanked, tests set apart, functions found.

use std::ops::Range;

const TEST_MARK: &str = "#[cfg(test)]";

/// One `.rs` file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Path from the repository's top, with `/`.
    pub path: String,
    /// The text with comments and the insides of literals turned into spaces; lines stay.
    pub code: String,
    /// [`code`](Self::code) with everything under `#[cfg(test)]` turned into spaces too; nothing at
    /// all if the whole file is a test.
    pub shipped: String,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// From 1.
    pub first_line: usize,
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank_literals(text);
        let shipped = if is_test_file(path) { blank(&code) } else { blank_tests(&code) };
        Self { path: path.to_owned(), code, shipped }
    }

    /// The same file, known to be a test as a whole.
    pub fn into_test(mut self) -> Self {
        self.shipped = blank(&self.shipped);
        self
    }

    /// The files (without `.rs`) of the modules that are declared as `#[cfg(test)] mod name;`. What
    /// lies under such a path is test too.
    pub fn test_modules(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let (parent, name) = stem.rsplit_once('/').unwrap_or(("", stem));
        let directory = if ["mod", "lib", "main"].contains(&name) { parent } else { stem };
        let marks = self.code.match_indices(TEST_MARK).map(|(at, _)| at + TEST_MARK.len());
        marks
            .filter_map(|start| {
                let item = self.code[start..end_of_item(&self.code, start)?].strip_suffix(';')?;
                let (_, module) = item.rsplit_once("mod ")?;
                Some(format!("{directory}/{}", module.trim()))
            })
            .collect()
    }

    pub fn lines(&self) -> usize {
        self.code.lines().count()
    }

    /// The lines (from 1) of shipped code where this word stands: whole words, `::` and `.` included.
    pub fn shipped_lines_with(&self, word: &str) -> Vec<usize> {
        lines_with(&self.shipped, word)
    }

    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for start in find_words(&self.code, "fn") {
            let rest = self.code[start + 2..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            // `fn(u8) -> u8` is a type.
            if name.is_empty() {
                continue;
            }
            if let Some(end) = end_of_item(&self.code, start).filter(|end| self.code[..*end].ends_with('}')) {
                let first_line = line_of(&self.code, start);
                let lines = line_of(&self.code, end - 1) - first_line + 1;
                functions.push(Function { name, first_line, lines });
            }
        }
        functions
    }

    /// The modules this file declares.
    pub fn declared_modules(&self) -> Vec<String> {
        find_words(&self.code, "mod")
            .into_iter()
            .map(|at| self.code[at + 3..].trim_start().chars().take_while(|c| is_word(*c)).collect())
            .collect()
    }
}

/// Whether a file is a test as a whole.
fn is_test_file(path: &str) -> bool {
    let in_tests = path.split('/').any(|part| part == "tests");
    in_tests || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The line, from 1, that holds this byte.
fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let mut lines: Vec<usize> = find_words(code, word).into_iter().map(|at| line_of(code, at)).collect();
    lines.dedup();
    lines
}

/// Where a word stands that is not part of a longer one.
fn find_words(code: &str, word: &str) -> Vec<usize> {
    let touches_word = |neighbour: Option<char>, edge: Option<char>| {
        edge.is_some_and(is_word) && neighbour.is_some_and(is_word)
    };
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| !touches_word(code[..*at].chars().next_back(), word.chars().next()))
        .filter(|at| !touches_word(code[at + word.len()..].chars().next(), word.chars().next_back()))
        .collect()
}

/// Where an item that starts at `start` ends: after its `;`, or after the `}` of its body.
fn end_of_item(code: &str, start: usize) -> Option<usize> {
    let mut brackets = 0_i32;
    let mut braces = 0_i32;
    for (offset, character) in code[start..].char_indices() {
        match character {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 && brackets == 0 {
                    return Some(start + offset + 1);
                }
            }
            ';' if brackets == 0 && braces == 0 => return Some(start + offset + 1),
            _ => {}
        }
    }
    None
}

fn blank(code: &str) -> String {
    code.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Blanks each item that `#[cfg(test)]` stands before.
fn blank_tests(code: &str) -> String {
    let mut shipped = String::with_capacity(code.len());
    let mut at = 0;
    while let Some(found) = code[at..].find(TEST_MARK) {
        let start = at + found;
        let end = end_of_item(code, start + TEST_MARK.len()).unwrap_or(code.len());
        shipped.push_str(&code[at..start]);
        shipped.push_str(&blank(&code[start..end]));
        at = end;
    }
    shipped.push_str(&code[at..]);
    shipped
}

/// Turns comments and the insides of string and character literals into spaces.
fn blank_literals(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = match characters[at] {
            '/' if characters.get(at + 1) == Some(&'/') => end_of_line(&characters, at),
            '/' if characters.get(at + 1) == Some(&'*') => end_of_comment(&characters, at),
            '"' => end_of_string(&characters, at),
            '\'' => end_of_character(&characters, at),
            c if is_word(c) => {
                let word = end_of_word(&characters, at);
                code.extend(&characters[at..word]);
                at = word;
                match end_of_raw_string(&characters, at, &code) {
                    Some(end) => end,
                    None => continue,
                }
            }
            c => {
                code.push(c);
                at += 1;
                continue;
            }
        };
        let skipped: String = characters[at..end].iter().collect();
        code.push_str(&blank(&skipped));
        at = end;
    }
    code
}

fn end_of_line(text: &[char], at: usize) -> usize {
    let rest = text[at..].iter().position(|c| *c == '\n');
    rest.map_or(text.len(), |length| at + length)
}

/// Block comments nest.
fn end_of_comment(text: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn end_of_string(text: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            '"' => return at + 1,
            '\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// The end of a character literal; of the quote alone if it begins a lifetime.
fn end_of_character(text: &[char], start: usize) -> usize {
    if text.get(start + 1) == Some(&'\\') {
        let rest = text.iter().skip(start + 3).position(|c| *c == '\'');
        return rest.map_or(text.len(), |length| start + 3 + length + 1);
    }
    if text.get(start + 2) == Some(&'\'') { start + 3 } else { start + 1 }
}

fn end_of_word(text: &[char], start: usize) -> usize {
    let rest = text[start..].iter().position(|c| !is_word(*c));
    rest.map_or(text.len(), |length| start + length)
}

/// If the word that `code` ends with begins a raw string, where that ends.
fn end_of_raw_string(text: &[char], at: usize, code: &str) -> Option<usize> {
    let word: Range<usize> = code.rfind(|c| !is_word(c)).map_or(0, |before| before + 1)..code.len();
    if !["r", "br", "cr"].contains(&&code[word]) {
        return None;
    }
    let hashes = text[at..].iter().take_while(|c| **c == '#').count();
    if text.get(at + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = at + hashes + 1;
    let rest = text[body..].windows(close.len()).position(|window| window == close);
    Some(rest.map_or(text.len(), |length| body + length + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        let code = blank_literals(text);
        assert_eq!(code.lines().count(), text.lines().count(), "{text}");
        code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        assert_eq!(blanked("a // b.unwrap()\nc"), "a c");
        assert_eq!(blanked("a /* b /* c */ d\n */ e"), "a e");
        assert_eq!(blanked(r#"a("x \" y") b"#), "a( ) b");
        assert_eq!(blanked("a(r#\"x \" y\n\"#) b"), "a(r ) b");
        assert_eq!(blanked(r"f('{', '\'', '\u{7f}', b'}') g"), "f( , , , b ) g");
        assert_eq!(blanked("fn f<'a>(x: &'a str) {}"), "fn f< a>(x: & a str) {}");
        assert_eq!(blanked("r#type.unwrap()"), "r#type.unwrap()");
    }

    #[test]
    fn functions_are_measured() {
        let text = "fn a() -> [u8; 2] {\n    match '}' { _ => {} }\n}\ntrait T {\n    fn b();\n\n    fn c() {}\n}\n\
            type F = fn(u8) -> u8;\n";
        let found = Source::new("x.rs", text).functions();
        let function = |name: &str, first_line, lines| Function { name: name.into(), first_line, lines };
        assert_eq!(found, [function("a", 1, 3), function("c", 7, 1)]);
    }

    #[test]
    fn only_tests_are_left_out_of_shipped_code() {
        let text = "#[cfg(test)]\nmod suite_tests;\nfn a() { x.unwrap() }\n#[cfg(test)]\nmod tests {\n    fn b() { y.unwrap() }\n}\nfn c() { z.unwrap() }\n";
        assert_eq!(Source::new("meta/src/x.rs", text).shipped_lines_with(".unwrap()"), [3, 8]);
        assert!(Source::new("meta/tests/x.rs", text).shipped_lines_with(".unwrap()").is_empty());
        assert!(Source::new("meta/src/store/suite_tests.rs", text).shipped_lines_with("fn").is_empty());
    }

    #[test]
    fn modules_declared_for_tests_are_tests() {
        let text = "#[cfg(test)]\npub(crate) mod suite;\nmod disk;\n#[cfg(test)]\nmod tests {}\n";
        assert_eq!(Source::new("meta/src/store/mod.rs", text).test_modules(), ["meta/src/store/suite"]);
        assert_eq!(Source::new("meta/src/store.rs", text).test_modules(), ["meta/src/store/suite"]);
        let suite = Source::new("meta/src/store/suite.rs", "fn f() { g().unwrap() }");
        assert_eq!(suite.shipped_lines_with(".unwrap()"), [1]);
        assert!(suite.into_test().shipped_lines_with(".unwrap()").is_empty());
    }

    #[test]
    fn words_are_whole() {
        let source = Source::new("x.rs", "operand::x();\nrand::rng();\nstrand();\n");
        assert_eq!(source.shipped_lines_with("rand"), [2]);
        assert_eq!(source.shipped_lines_with("rand::rng"), [2]);
    }
}
