#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skerry_testkit::fuzz::key_answer(data));
