//! A connection that does not wait for ever: whoever takes too little of an answer gets no more of it.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// What a reader must take while it is waited for, if there is as much.
const LEAST_BYTES: usize = 64 << 10;

pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Runs from the moment in which the reader took nothing.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Taken since then.
    bytes: usize,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waiting: None, bytes: 0 }
    }

    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                self.bytes += count;
                if self.bytes >= LEAST_BYTES {
                    self.waiting = None;
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(failed) => Poll::Ready(failed),
            Poll::Pending => {
                if self.waiting.is_none() {
                    self.bytes = 0;
                }
                let patience = self.patience;
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
                ready!(waiting.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // All of the answer is gone.
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Takes so many bytes at every second look.
    struct Reader {
        takes: usize,
        is_due: bool,
    }

    impl AsyncWrite for Reader {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.is_due = !self.is_due;
            if self.is_due || self.takes == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(bytes.len().min(self.takes)))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes so much to a reader that takes so much at a time; says how much it got.
    fn write(all: usize, takes: usize, patience: Duration) -> io::Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut stream = Patient::new(Reader { takes, is_due: false }, patience);
            let part = [0; 1 << 16];
            let mut written = 0;
            while written < all {
                let rest = &part[..part.len().min(all - written)];
                written += poll_fn(|cx| Pin::new(&mut stream).poll_write(cx, rest)).await?;
            }
            poll_fn(|cx| Pin::new(&mut stream).poll_flush(cx)).await?;
            assert!(stream.waiting.is_none(), "nothing is waited for any more");
            Ok(written)
        })
    }

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn who_takes_all_gets_all() {
        assert_eq!(write(5 << 20, 1 << 16, LONG).unwrap(), 5 << 20);
        assert_eq!(write(5 << 20, 1000, LONG).unwrap(), 5 << 20);
    }

    #[test]
    fn who_takes_nothing_gets_no_more() {
        assert_eq!(write(1, 0, SHORT).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn who_takes_little_gets_no_more() {
        assert_eq!(write(usize::MAX, 1, SHORT).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
