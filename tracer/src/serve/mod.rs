//! Answers over HTTP. A question goes to whoever knows where things stand, and comes back as a [`Page`].

use crate::watch::Watched;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// How the tracing itself goes.
    Health,
}

/// An answer, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Of HTTP.
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

impl Page {
    /// To people.
    pub fn text(status: u16, text: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: text.as_bytes().to_vec() }
    }
}

/// What there is to say.
pub fn answer(question: &Question, watched: &Watched) -> Page {
    match question {
        Question::Health => Page::text(200, &format!("{:.0} s\n", watched.now_s())),
    }
}
