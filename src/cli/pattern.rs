//! Patterns of names.

/// A pattern: `*` stands for any text, also none, and `?` for one character. All other characters stand for
/// themselves, since names may have any.
pub(crate) struct Pattern(Vec<char>);

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let (pattern, name): (_, Vec<char>) = (&self.0, name.chars().collect());
        let (mut at, mut seen) = (0, 0);
        // The last `*`, and from where the text that it stands for ends.
        let mut star = None;
        while seen < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    star = Some((at, seen));
                    at += 1;
                }
                Some(wanted) if *wanted == '?' || *wanted == name[seen] => {
                    at += 1;
                    seen += 1;
                }
                _ => {
                    let Some((star_at, end)) = star else { return false };
                    star = Some((star_at, end + 1));
                    (at, seen) = (star_at + 1, end + 1);
                }
            }
        }
        pattern[at..].iter().all(|rest| *rest == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stars_and_question_marks_are_special() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a"),
            ("a*", "a"),
            ("*b*", "abc"),
            ("a**c", "abc"),
            ("*ab", "aab"),
            ("a*b*c", "a1b2b3c"),
            ("?", "\u{e4}"),
            ("a[b]*", "a[b]c"),
            ("!{a,b}", "!{a,b}"),
            ("", ""),
            ("a/*", "a/b/c"),
        ] {
            assert!(Pattern::new(pattern).matches(name), "{pattern:?} {name:?}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("?", ""),
            ("?", "ab"),
            ("a*", "ba"),
            ("*a", "ab"),
            ("a[b]", "ab"),
            ("a*b*c", "a1c2b"),
            ("ab", "a"),
            ("a", "A"),
        ] {
            assert!(!Pattern::new(pattern).matches(name), "{pattern:?} {name:?}");
        }
    }
}
