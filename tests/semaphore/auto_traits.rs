//! What may be sent, shared and moved: a change here breaks users.

use zset_semaphore::{
    Acquire, AcquireError, Backoff, Client, ClientBuilder, ConfigError, ConnectError, ControlError,
    ExtendError, Inspection, LostReason, MemoryStore, Permit, PermitHandle, PermitId, ReleaseError,
    SemaphoreBuilder, ShutdownError, StoreError, TryAcquire, TryAcquireError, ZSetSemaphore,
};

fn send<T: Send + 'static>() {}
fn shared<T: Send + Sync + 'static>() {}
fn unpin<T: Unpin>() {}
fn error<T: std::error::Error + Send + Sync + Unpin + Clone + 'static>() {}
fn clone<T: Clone>() {}

#[test]
fn public_types_cross_threads_and_tasks() {
    send::<Acquire>();
    send::<TryAcquire>();
    shared::<Acquire>();
    shared::<Permit>();
    unpin::<Permit>();
    shared::<PermitHandle>();
    clone::<PermitHandle>();
    shared::<ZSetSemaphore>();
    clone::<ZSetSemaphore>();
    shared::<Client>();
    clone::<Client>();
    shared::<MemoryStore>();
    clone::<MemoryStore>();
    shared::<ClientBuilder>();
    shared::<SemaphoreBuilder>();
    shared::<Backoff>();
    shared::<Inspection>();
    shared::<PermitId>();
    shared::<LostReason>();
}

#[test]
fn errors_are_data_that_travels() {
    error::<AcquireError>();
    error::<TryAcquireError>();
    error::<ConfigError>();
    error::<ConnectError>();
    error::<ControlError>();
    error::<ExtendError>();
    error::<ReleaseError>();
    error::<ShutdownError>();
    error::<StoreError>();
}
