//! The log from outside: on a simulated disk that forgets, fails and rots, and on a real one.

#[cfg(test)]
mod adapter;
#[cfg(test)]
mod common;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod log;
#[cfg(test)]
mod model;
#[cfg(test)]
mod named_bugs;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod room;
#[cfg(test)]
#[path = "../surgery/mod.rs"]
mod surgery;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod untold;
