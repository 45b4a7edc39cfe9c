//! Answers over HTTP: metrics, health, profiles, reports. They can only be read.
//!
//! A request becomes what is [wanted](route), pure. Whoever knows where everybody stands is asked a [`Question`]; he gives away
//! a bounded copy and goes on, and the [`Page`] is made of it here, where nobody waits. What is asked often is answered from
//! what was said a second ago, so that no flood reaches him.

mod body;
mod connections;
mod desk;
mod health;
mod listener;
mod lists;
mod metrics;
mod overview;
mod page;
mod patience;
mod question;
mod render;
mod route;
mod server;
mod source;
#[cfg(test)]
mod tests;

pub use self::{
    listener::Listener,
    overview::{Limits, Overview},
    page::Page,
    question::{About, Excerpt, Facts, Question, answer},
    server::serve,
    source::{Incident, Own, Source},
};
