//! What a long run decides: who grows, who is looked at closely and for how long, what is alarming, and what is kept of
//! those that died. Pure: rows go in, values come out; files, commands and the network are the business of `live`.

mod config;
mod incident;
mod watched;

pub use self::{
    config::{Config, ConfigError},
    incident::{
        BlackBoxConfig, Facts, IncidentsConfig, STATE_DIR, ended_badly, happened_s, incident, interrupted,
    },
    watched::{Group, Standing, Watched},
};
