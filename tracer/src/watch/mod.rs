//! What a long run decides: who grows, who is looked at closely and for how long, what is alarming, and what is kept of
//! those that died. Pure: rows go in, values come out; files, commands and the network are the business of `live`.

mod alert;
mod alerts;
mod budget;
mod config;
mod evidence;
mod growth;
mod http;
mod incident;
mod outlets;
mod rise;
pub mod suspicion;
mod trigger;
mod watched;
mod wear;
mod written;

pub use self::{
    alert::{Alert, Event, Reason, Severity, Subject},
    alerts::{Alerting, Alerts},
    budget::{Budget, Ceiling, Limit, Selector},
    config::{Config, ConfigError},
    evidence::{Evidence, TopStack},
    http::{HttpConfig, Listen},
    incident::{
        BlackBoxConfig, Facts, IncidentsConfig, STATE_DIR, ended_badly, happened_s, incident, interrupted,
    },
    outlets::{Elsewhere, Log, Outlets, Secret, Webhook},
    trigger::{Trigger, Triggers, Wanted},
    watched::{Group, Standing, Watched},
    wear::Wear,
};
