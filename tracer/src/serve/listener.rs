//! Where connections come in: a port, or a file.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdTcpListener},
    os::unix::net::UnixListener as StdUnixListener,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

/// A place that is ours already; nothing on it waits.
pub enum Listener {
    Tcp {
        listener: StdTcpListener,
        address: SocketAddr,
        /// The host, as it was typed.
        host: String,
    },
    /// Whoever may open the file may ask.
    Unix(StdUnixListener),
}

impl Listener {
    /// Anybody who can reach this machine over a network can ask.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Tcp { address, .. } if !address.ip().is_loopback())
    }

    /// Who may be meant by the header `Host`; `None`: anybody.
    pub(super) fn hosts(&self) -> Option<Hosts> {
        match self {
            Self::Tcp { address, host, .. } if address.ip().is_loopback() => {
                Some(Hosts { address: address.ip(), typed: host.to_ascii_lowercase() })
            }
            _ => None,
        }
    }

    /// To be called where tokio runs.
    pub(super) fn open(&self) -> io::Result<Open> {
        Ok(match self {
            Self::Tcp { listener, .. } => Open::Tcp(TcpListener::from_std(listener.try_clone()?)?),
            Self::Unix(listener) => Open::Unix(UnixListener::from_std(listener.try_clone()?)?),
        })
    }
}

/// By what names this server goes. A page from elsewhere may have its own name lead here, and would then read what we say
/// as its own (DNS rebinding); but it cannot have its reader's browser name us.
pub(super) struct Hosts {
    address: IpAddr,
    /// As in the configuration.
    typed: String,
}

impl Hosts {
    /// `host`: with a port or without.
    pub(super) fn admit(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|it| it.is_ascii_digit()) => name,
            _ => &host,
        };
        let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name);
        bare.parse::<IpAddr>().is_ok_and(|it| it.is_loopback() || it == self.address)
            || name == "localhost"
            || (!name.is_empty() && self.typed == name)
    }
}

pub(super) enum Open {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Open {
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(it) => it.accept().await.map(|it| Stream::Tcp(it.0)),
            Self::Unix(it) => it.accept().await.map(|it| Stream::Unix(it.0)),
        }
    }
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// What fits at once; nobody waits for more.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(it) => it.try_write(bytes),
            Self::Unix(it) => it.try_write(bytes),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(it) => Pin::new(it).poll_read(cx, to),
            Self::Unix(it) => Pin::new(it).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(it) => Pin::new(it).poll_write(cx, bytes),
            Self::Unix(it) => Pin::new(it).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(it) => Pin::new(it).poll_flush(cx),
            Self::Unix(it) => Pin::new(it).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(it) => Pin::new(it).poll_shutdown(cx),
            Self::Unix(it) => Pin::new(it).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_be_meant() {
        let hosts = Hosts { address: "127.0.0.1".parse().unwrap(), typed: "box.internal".to_owned() };
        for known in [
            "localhost",
            "LOCALHOST:9464",
            "127.0.0.1:9464",
            "127.0.0.1",
            "[::1]:9464",
            "[::1]",
            "box.internal:9464",
        ] {
            assert!(hosts.admit(known), "{known}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "10.0.0.1",
            "127.0.0.1.evil.example",
            ":9464",
        ] {
            assert!(!hosts.admit(other), "{other}");
        }
    }
}
