//! The names in use, by a scan of the keys.

use redis::{Cmd, FromRedisValue, RedisResult, Value, cmd};

use crate::error::is_semaphore_name;
use crate::store::{NamesCursor, NamesPage};

/// How many keys of the server one call looks at: a call takes less than a millisecond.
const LOOKED_AT: usize = 1_000;

/// Every name has this key as long as anything is known of it.
const KEY: &str = ":meta";

/// Makes the call for one page.
pub(super) fn page_call(prefix: &str, page: NamesCursor) -> Cmd {
    let pattern = format!("{}{{*}}{KEY}", escaped(prefix));
    let mut call = cmd("SCAN");
    call.arg(page.0).arg("MATCH").arg(pattern).arg("COUNT").arg(LOOKED_AT);
    call
}

/// Reads the reply. Keys that are not those of a semaphore are left out.
pub(super) fn read_page(reply: Value, prefix: &str) -> RedisResult<NamesPage> {
    let (next, keys): (u64, Vec<Vec<u8>>) = FromRedisValue::from_redis_value(reply)?;
    let names = keys.iter().filter_map(|key| name_of(key, prefix));
    let next = (next != 0).then_some(NamesCursor(next));
    Ok(NamesPage { names: names.map(str::to_owned).collect(), next })
}

fn name_of<'a>(key: &'a [u8], prefix: &str) -> Option<&'a str> {
    let name = std::str::from_utf8(key).ok()?.strip_prefix(prefix)?.strip_prefix('{')?;
    let name = name.strip_suffix(KEY)?.strip_suffix('}')?;
    is_semaphore_name(name).then_some(name)
}

/// Escapes what has a meaning in a pattern.
fn escaped(text: &str) -> String {
    let special = |character| matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\');
    let escape = |character| special(character).then_some('\\').into_iter().chain([character]);
    text.chars().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn only_keys_of_semaphores_under_the_prefix_are_names() {
        let keys = [
            "zsem:{jobs}:meta",
            "zsem:{a:b *}:meta",
            "zsem:{jobs}:permits",
            "zsem:{}:meta",
            "zsem:{a}b}:meta",
            "zsem:{a{b}:meta",
            "zsem:jobs:meta",
            "other:{jobs}:meta",
            "zsem:{bell\u{7}}:meta",
        ];
        let mut keys: Vec<Value> = keys.into_iter().map(key).collect();
        keys.push(Value::BulkString(b"zsem:{\xff}:meta".to_vec()));
        keys.push(key(&format!("zsem:{{{}}}:meta", "n".repeat(513))));
        let page = read_page(Value::Array(vec![key("17"), Value::Array(keys)]), "zsem:").unwrap();
        assert_eq!(page.names, ["jobs", "a:b *"]);
        assert_eq!(page.next, Some(NamesCursor(17)));
        let last = Value::Array(vec![key("0"), Value::Array(Vec::new())]);
        assert_eq!(read_page(last, "zsem:").unwrap(), NamesPage::default());
        assert!(read_page(Value::Okay, "zsem:").is_err());
    }

    #[test]
    fn a_prefix_means_itself_in_the_pattern() {
        assert_eq!(escaped(r"a*b?c[d]e^f-g\h"), r"a\*b\?c\[d\]e\^f\-g\\h");
        let call = page_call("z*:", NamesCursor(5)).get_packed_command();
        let call = String::from_utf8(call).unwrap();
        assert!(call.contains("\r\nz\\*:{*}:meta\r\n") && call.contains("\r\n5\r\n"), "{call}");
    }
}
