//! Nothing lives here: the tests are in `tests/`, and talk to a running server.
