//! Waiting for what a callback reports.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::lock::lock;

/// How a future waits for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It blocks its thread, which costs nothing.
    #[cfg(not(target_arch = "wasm32"))]
    Block,
    /// It is woken by the browser, or by a thread that waits.
    Yield,
}

/// Something that a callback reports, awaited.
#[derive(Debug)]
pub(super) struct Signal<T>(Arc<Mutex<SignalState<T>>>);

/// What is reported, once it is, and who waits for it.
type SignalState<T> = (Option<T>, Option<Waker>);

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((None, None))))
    }
}

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Signal<T> {
    pub fn set(&self, reported: T) {
        let mut state = lock(&self.0);
        state.0 = Some(reported);
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Signal<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = lock(&self.0);
        match state.0.take() {
            Some(reported) => Poll::Ready(reported),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
