use crate::tower::keyed::key::Key;

#[test]
fn harmless_keys_are_names_as_they_are_and_others_are_hashed() {
    for plain in ["alice", "a-b_c.d@e:f", &"x".repeat(64)] {
        assert_eq!(Key::new(plain.as_bytes()).name(), plain);
    }
    let odd = ["", "-", "a b", "a/b", "a{b}", "a\nb", "#abc", "ü", &"x".repeat(65)];
    let mut names: Vec<_> = odd.iter().map(|key| Key::new(key.as_bytes()).name()).collect();
    names.push(Key::secret("alice".as_bytes()).name());
    assert!(names.iter().all(|name| name.len() == 33 && name.starts_with('#')), "{names:?}");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), odd.len() + 1);
    // The first 16 bytes of the digest of the empty text (FIPS 180-4).
    assert_eq!(Key::new(&b""[..]).name(), "#e3b0c44298fc1c149afbf4c8996fb924");
}
