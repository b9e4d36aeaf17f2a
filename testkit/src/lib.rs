//! Test doubles, contract suites and the namespace lab; never part of a release build.
