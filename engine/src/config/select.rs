//! Patterns that select tags: `*` any characters, `?` one character.

/// Whether `name` fits `pattern`; bytes are compared, so `?` is one byte of a non-ASCII name.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (p, n) = (pattern.as_bytes(), name.as_bytes());
    let (mut i, mut j) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while j < n.len() {
        if i < p.len() && p[i] == b'*' {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && (p[i] == b'?' || p[i] == n[j]) {
            i += 1;
            j += 1;
        } else if let Some((si, sj)) = star {
            i = si + 1;
            j = sj + 1;
            star = Some((si, sj + 1));
        } else {
            return false;
        }
    }
    p[i..].iter().all(|&b| b == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks_select() {
        assert!(matches("boiler*.pressure.*", "boiler1.pressure.a"));
        assert!(matches("*", ""));
        assert!(matches("a?c*", "abc"));
        assert!(!matches("a?c", "ac"));
        assert!(!matches("boiler*.pressure", "boiler1.pressure.a"));
        assert!(matches("*.a*b", "x.a.a.bb"));
    }
}
