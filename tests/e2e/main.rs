//! End-to-end tests: the commands as a user runs them.

mod bad_input;
mod broker;
mod control;
mod demo;
mod replay;
mod run;
mod tidy;
