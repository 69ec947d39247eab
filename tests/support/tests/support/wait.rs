use std::time::Duration;

use test_support::wait::{eventually, within};

#[tokio::test]
#[should_panic(expected = "the moon is green: not so after 1ms")]
async fn what_was_waited_for_is_named() {
    eventually("the moon is green", Duration::from_millis(1), async || false).await;
}

#[tokio::test]
#[should_panic(expected = "support/tests/support/wait.rs")]
async fn where_it_was_awaited_is_named() {
    within(Duration::from_millis(1), std::future::pending::<()>()).await;
}
