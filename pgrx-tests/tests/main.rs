//! Integration tests, by area. All share one cluster, started by the first test that asks for a database.

mod capture;
mod connections;
mod convergence;
mod docs_match;
mod docs_played;
mod encodings;
mod kill;
mod life;
mod log;
mod peers;
mod remote;
mod security;
mod smoke;
