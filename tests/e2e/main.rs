//! End-to-end tests: the commands as a user runs them.

mod bad_input;
mod demo;
mod replay;
mod run;
