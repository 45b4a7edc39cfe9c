//! The body of an answer, piece by piece, so that it is known how much of it has been taken.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::connections::Work;

const PIECE_BYTES: usize = 64 << 10;

pub(super) struct Sent {
    rest: Bytes,
    /// Until the last piece has been taken the connection is at work,
    _work: Work,
    /// and the memory of a large answer is counted.
    _memory: Option<OwnedSemaphorePermit>,
}

impl Sent {
    pub(super) fn new(body: Bytes, work: Work, memory: Option<OwnedSemaphorePermit>) -> Self {
        Self { rest: body, _work: work, _memory: memory }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let count = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(count)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
