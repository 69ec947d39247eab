use crate::store::redis::config::without_password;

#[test]
fn a_shown_url_hides_the_password() {
    for (url, shown) in [
        ("redis://u:p@host:1/2", "redis://***@host:1/2"),
        ("redis://:p@ss@host", "redis://***@host"),
        ("unix:///tmp/s?pass=p", "unix:///tmp/s"),
        ("app:p@host:6379", "***@host:6379"),
        ("u:p@x://host", "***@x://host"),
        ("nonsense", "nonsense"),
    ] {
        assert_eq!(without_password(url), shown);
    }
}
