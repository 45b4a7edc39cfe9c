//! Taking the place where questions over HTTP come in.

use std::{
    fs, io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use crate::{serve::Listener, watch::Listen};

/// The owner and its group may ask: what a connection can learn is what root can learn.
const SOCKET_MODE: u32 = 0o660;

/// A place that is ours. Its file, if it is one, is removed when it is dropped.
pub struct Place {
    pub(super) listener: Listener,
    file: Option<PathBuf>,
}

impl Place {
    /// `None` if nobody is to be listened to.
    ///
    /// # Errors
    /// If somebody else is there already, or it is not allowed.
    pub fn take(listen: &Listen) -> io::Result<Option<Self>> {
        match listen {
            Listen::Nowhere => Ok(None),
            Listen::Tcp(text) => {
                let listener = TcpListener::bind(text)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let host = text.rsplit_once(':').map_or("", |it| it.0).to_owned();
                Ok(Some(Self { listener: Listener::Tcp { listener, address, host }, file: None }))
            }
            Listen::Unix(path) => {
                let listener = bind_file(path)?;
                listener.set_nonblocking(true)?;
                Ok(Some(Self { listener: Listener::Unix(listener), file: Some(path.clone()) }))
            }
        }
    }

    /// Where it is, for people.
    pub fn name(&self) -> String {
        match (&self.listener, &self.file) {
            (_, Some(path)) => Listen::Unix(path.clone()).to_string(),
            (Listener::Tcp { address, .. }, None) => format!("http://{address}"),
            (Listener::Unix(_), None) => String::new(),
        }
    }

    /// Anybody who can reach this machine over a network can ask.
    pub fn is_public(&self) -> bool {
        self.listener.is_public()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            let _ = fs::remove_file(path);
        }
    }
}

/// A file of an earlier watch that nobody listens at any more is replaced. It gets its name when it has its rights.
fn bind_file(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(it) if !it.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        _ => {}
    }
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    // Only a process with our number can have left it behind.
    let _ = fs::remove_file(&new);
    let listener = UnixListener::bind(&new)?;
    let named = fs::set_permissions(&new, fs::Permissions::from_mode(SOCKET_MODE))
        .and_then(|()| fs::rename(&new, path));
    if named.is_err() {
        let _ = fs::remove_file(&new);
    }
    named.map(|()| listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_an_error() {
        let listen = "127.0.0.1:0".parse().unwrap();
        let first = Place::take(&listen).unwrap().unwrap();
        let taken = Listen::Tcp(first.name().replace("http://", ""));
        assert_eq!(Place::take(&taken).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert!(!first.is_public());
        assert!(Place::take(&Listen::Nowhere).unwrap().is_none());
    }

    #[test]
    fn a_file_has_its_rights_and_goes_with_us() {
        let path = std::env::temp_dir().join(format!("alloctrace-listener-{}.sock", std::process::id()));
        let listen = Listen::Unix(path.clone());
        let first = Place::take(&listen).unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(Place::take(&listen).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        // What a watch left behind that was killed.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Place::take(&listen).unwrap().unwrap());
        fs::write(&path, "precious").unwrap();
        assert_eq!(Place::take(&listen).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }
}
