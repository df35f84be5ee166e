//! End-to-end tests: the commands as a user runs them.

mod broker;
mod control;
mod demo;
mod replay;
mod run;
