//! Connections in, answers out. HTTP/1.1 by hyper; the limits are ours.

use std::{cell::Cell, convert::Infallible, io, rc::Rc, sync::Arc, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::Incoming,
    header::{self, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::{LocalSet, spawn_local},
    time::{sleep, timeout},
};

use super::{
    Limits, Listener, Source,
    body::Sent,
    connections::{Connections, Work},
    desk::Desk,
    listener::{Hosts, Stream},
    page::Page,
    patience::Patient,
    route::route,
};

/// For a request's head, from the connection or the last answer on. Prometheus asks again once a minute, or connects anew.
const HEAD: Duration = Duration::from_secs(75);

/// In this time a reader must take 64 KiB of an answer, if there is as much.
const PATIENCE: Duration = Duration::from_secs(20);

/// A head of more bytes is refused.
const MAX_HEAD_BYTES: usize = 16 << 10;
const MAX_HEADERS: usize = 64;

/// Memory for large answers that are being sent, in KiB; an answer is large from the second on.
const MEMORY_KIB: usize = 64 << 10;
const LARGE_BYTES: usize = 256 << 10;

/// How long a large answer waits for others to be taken.
const ROOM: Duration = Duration::from_secs(10);

/// After which it is tried again if no connection can be accepted: there are no descriptors left.
const NO_DESCRIPTORS: Duration = Duration::from_millis(200);

/// Instead of an answer, to whoever comes when all that are here are at work.
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Answers until `stop` comes. On a runtime of its own with one thread, with time and input enabled.
///
/// # Errors
/// If the listener does not work here.
pub async fn serve(
    listener: &Listener,
    source: Arc<dyn Source>,
    limits: Limits,
    stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let server = Rc::new(Server {
        desk: Rc::new(Desk::new(source, limits)),
        hosts: listener.hosts(),
        memory: Arc::new(Semaphore::new(MEMORY_KIB)),
    });
    let open = listener.open()?;
    let accept = async {
        let connections = Rc::new(Connections::default());
        loop {
            match open.accept().await {
                Ok(stream) if connections.make_room() => Rc::clone(&server).meet(stream, &connections),
                Ok(stream) => drop(stream.try_write(FULL)),
                Err(error) => {
                    log::info!("a connection could not be accepted: {error}");
                    sleep(NO_DESCRIPTORS).await;
                }
            }
        }
    };
    let all = LocalSet::new();
    all.run_until(async {
        tokio::select! {
            () = accept => {}
            _ = stop => {}
        }
    })
    .await;
    Ok(())
}

struct Server {
    desk: Rc<Desk>,
    /// `None`: every name will do.
    hosts: Option<Hosts>,
    memory: Arc<Semaphore>,
}

impl Server {
    /// Talks to one client in a task of its own.
    fn meet(self: Rc<Self>, stream: Stream, connections: &Rc<Connections>) {
        let work = Work::default();
        let own = work.clone();
        let id = Rc::new(Cell::new(None));
        let (all, known_as) = (Rc::clone(connections), Rc::clone(&id));
        let task = spawn_local(async move {
            let service = service_fn(|request| {
                let (server, work) = (Rc::clone(&self), own.clone());
                async move { Ok::<_, Infallible>(server.answer(&request, work).await) }
            });
            let talk = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(MAX_HEAD_BYTES)
                .max_headers(MAX_HEADERS)
                .serve_connection(TokioIo::new(Patient::new(stream, PATIENCE)), service);
            if let Err(error) = talk.await {
                log::debug!("a connection ended: {error}");
            }
            if let Some(id) = known_as.get() {
                all.remove(id);
            }
        });
        id.set(Some(connections.add(work, task.abort_handle())));
    }

    async fn answer(&self, request: &Request<Incoming>, work: Work) -> Response<Sent> {
        let page = match self.refusal(request) {
            Some(page) => page,
            None => {
                let uri = request.uri();
                let accept = request.headers().get_all(header::ACCEPT).iter();
                let accept: Vec<&str> = accept.filter_map(|it| it.to_str().ok()).collect();
                match route(uri.path(), uri.query(), &accept.join(",")) {
                    Ok(wanted) => self.desk.answer(wanted).await,
                    Err(page) => page,
                }
            }
        };
        match self.room(&page).await {
            Some(memory) => response(page, work, memory),
            None => response(
                Page::busy("Too many large answers are being sent; ask again in a moment."),
                work,
                None,
            ),
        }
    }

    /// Before it is looked at what is asked for.
    fn refusal(&self, request: &Request<Incoming>) -> Option<Page> {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Some(Page::text(405, "This can only be read: GET and HEAD.").with("allow", "GET, HEAD"));
        }
        let hosts = self.hosts.as_ref()?;
        let named = request.uri().authority().map(hyper::http::uri::Authority::as_str);
        let mut headers = request.headers().get_all(header::HOST).iter();
        let header = headers.next().map(|it| it.to_str().unwrap_or(""));
        let is_ours = |it: Option<&str>| it.is_none_or(|it| hosts.admit(it));
        // From before it had to be there.
        let is_old = request.version() < Version::HTTP_11;
        if headers.next().is_some() || (header.is_none() && !is_old) {
            return Some(Page::wrong("A request has one header Host."));
        }
        let refused = "This server goes by the name of localhost, and was asked for as another one.";
        (!is_ours(named) || !is_ours(header)).then(|| Page::text(403, refused))
    }

    /// For a large answer; outside `None` if there is none in time.
    async fn room(&self, page: &Page) -> Option<Option<OwnedSemaphorePermit>> {
        if page.body.len() < LARGE_BYTES {
            return Some(None);
        }
        let kib = (page.body.len() >> 10).min(MEMORY_KIB) as u32;
        let memory = Arc::clone(&self.memory).acquire_many_owned(kib);
        timeout(ROOM, memory).await.ok()?.ok().map(Some)
    }
}

/// With every answer: what is said here is for whoever asked, now, and is what its type says.
const ALWAYS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

fn response(page: Page, work: Work, memory: Option<OwnedSemaphorePermit>) -> Response<Sent> {
    let Page { status, content_type, headers, body } = page;
    let mut response = Response::new(Sent::new(body, work, memory));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let all = response.headers_mut();
    for (name, value) in ALWAYS {
        all.insert(name, HeaderValue::from_static(value));
    }
    all.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in headers {
        // They are made of our own words.
        if let Ok(value) = HeaderValue::from_str(&value) {
            all.insert(HeaderName::from_static(name), value);
        }
    }
    response
}
