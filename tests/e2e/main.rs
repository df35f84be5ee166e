//! End-to-end tests: the commands as a user runs them.

mod replay;
mod run;
