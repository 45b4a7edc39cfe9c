//! An answer, as it is sent.

use hyper::body::Bytes;

/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of HTTP.
    pub status: u16,
    pub content_type: &'static str,
    /// Names in lower case.
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
}

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
pub(super) const HTML: &str = "text/html; charset=utf-8";

/// Seconds after which it is worth asking again.
const RETRY_S: u32 = 1;

impl Page {
    pub(super) fn new(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: 200, content_type, headers: Vec::new(), body: body.into() }
    }

    /// A page of ours: no script, nothing from elsewhere.
    pub(super) fn html(body: String) -> Self {
        Self::new(HTML, body).with("content-security-policy", PLAIN_POLICY)
    }

    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self { status, ..Self::new(JSON, format!("{value:#}\n")) }
    }

    /// To people: a sentence.
    pub(super) fn text(status: u16, text: &str) -> Self {
        Self { status, ..Self::new(TEXT, format!("{text}\n")) }
    }

    /// The question is not one.
    pub(super) fn wrong(why: &str) -> Self {
        Self::text(400, why)
    }

    /// Later it may be better.
    pub(super) fn busy(why: &str) -> Self {
        Self::text(503, why).with("retry-after", &RETRY_S.to_string())
    }

    #[must_use]
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

const PLAIN_POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'unsafe-inline'";

/// `text` as text in HTML, and in an attribute in double quotes.
pub(super) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for it in text.chars() {
        match it {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            it => escaped.push(it),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        assert_eq!(escape_html("<a href=\"x\">&</a>ü"), "&lt;a href=&quot;x&quot;&gt;&amp;&lt;/a&gt;ü");
    }

    #[test]
    fn who_comes_too_soon_is_told_when_to_come_again() {
        let page = Page::busy("too much at once");
        assert_eq!((page.status, &page.body[..]), (503, &b"too much at once\n"[..]));
        assert_eq!(page.headers, [("retry-after", "1".to_owned())]);
    }
}
