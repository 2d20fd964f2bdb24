#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use skerry_core::{Order, Pos, RoomNid, UserNid};

use super::{Buf, Cur, Field, Key, Prefix, put_value, take_value};
use crate::log::Change;

fn key_bytes<K: Key>(key: &K) -> Vec<u8> {
    let mut buf = Buf::new();
    key.encode(&mut buf);
    buf.bytes
}

fn check_order<K: Key + Ord + std::fmt::Debug>(a: &K, b: &K) {
    let (x, y) = (key_bytes(a), key_bytes(b));
    assert_eq!(a.cmp(b), x.cmp(&y), "{a:?} {b:?}");
    if a != b {
        assert!(!x.starts_with(&y) && !y.starts_with(&x), "{a:?} {b:?}");
    }
    let mut cur = Cur::new(&x);
    assert_eq!(&K::decode(&mut cur).unwrap(), a);
    cur.end().unwrap();
}

fn check_value<T: Field + PartialEq + std::fmt::Debug>(value: &T) {
    let mut buf = Buf::new();
    put_value(value, &mut buf);
    assert_eq!(&take_value::<T>(buf.as_slice()).unwrap(), value);
    // Any shorter or longer row is refused or read as something else, and never panics.
    for n in 0..buf.bytes.len() {
        let _ = take_value::<T>(&buf.bytes[..n]);
    }
    buf.byte(0);
    assert!(take_value::<T>(buf.as_slice()).is_err());
}

fn text() -> impl Strategy<Value = String> {
    // Zero bytes and their neighbours are what the escaping is about.
    proptest::collection::vec(prop_oneof!["\0", "\u{1}", "[a-c]", "\u{ff}"], 0..5)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn keys_sort_as_values(
        a in (text(), any::<i64>(), any::<u64>(), any::<u16>()),
        b in (text(), any::<i64>(), any::<u64>(), any::<u16>()),
    ) {
        check_order(&a, &b);
        check_order(&a.0.into_bytes(), &b.0.into_bytes());
        check_order(&(RoomNid(a.2), a.1), &(RoomNid(b.2), b.1));
        check_order(
            &Order { anchor: Pos(a.2 >> 24), n: a.1 },
            &Order { anchor: Pos(b.2 >> 24), n: b.1 },
        );
    }

    #[test]
    fn a_prefix_selects_exactly_its_keys(a in (text(), any::<u8>()), b in (text(), any::<u8>())) {
        let mut prefix = Buf::new();
        Prefix::<(String, u8)>::encode_prefix(&a.0, &mut prefix);
        prop_assert_eq!(key_bytes(&b).starts_with(prefix.as_slice()), a.0 == b.0);
    }

    #[test]
    fn values_come_back(a in (text(), any::<i64>(), any::<u64>(), any::<bool>()), raw: Vec<u8>) {
        check_value(&a);
        check_value(&(a.0.clone(), vec![(a.1, a.2)], Some(a.3)));
        check_value(&raw);
        check_value(&(a.2 as u16, a.2 as u32, [1u8, 2, 3], Pos(a.2)));
        check_value(&(Order { anchor: Pos(a.2), n: a.1 }, None::<u8>));
    }

    #[test]
    fn any_bytes_are_read_without_panic(raw: Vec<u8>) {
        let _ = take_value::<Change>(&raw);
        let _ = take_value::<Vec<(String, Option<Vec<u64>>)>>(&raw);
        let _ = <(String, Vec<u8>, i64)>::decode(&mut Cur::new(&raw));
    }
}

#[test]
fn changes_come_back() {
    let user = UserNid(300);
    let room = RoomNid(7);
    for change in [
        Change::Timeline {
            room,
            event: skerry_core::EventNid(9),
            sender: user,
        },
        Change::Member {
            room,
            user,
            membership: skerry_core::Membership::Ban,
        },
        Change::Receipt {
            room,
            user,
            private: true,
        },
        Change::AccountData { user, room: None },
        Change::AccountData {
            user,
            room: Some(room),
        },
        Change::ToDevice {
            user,
            device: "D".into(),
        },
        Change::DeviceList { user },
        Change::Keys {
            user,
            device: "D".into(),
        },
        Change::Pusher { user },
        Change::Profile { user },
        Change::ThreadSubscription { user },
    ] {
        check_value(&change);
    }
}

mod records {
    use crate::codec::{Buf, put_value, take_value};
    use crate::{code_enum, record};

    code_enum! {
        /// For the test.
        pub enum Colour {
            /// Red.
            Red = 1,
            /// Blue.
            Blue = 7,
        }
    }
    record! {
        /// The old form.
        pub struct ThingV1 v1 {
            /// A number.
            pub n: u32,
        }
    }
    record! {
        /// The new form.
        pub struct Thing v2 {
            /// A number.
            pub n: u64,
            /// A colour.
            pub colour: Colour,
        } from ThingV1
    }
    impl From<ThingV1> for Thing {
        fn from(old: ThingV1) -> Self {
            Self {
                n: u64::from(old.n),
                colour: Colour::Red,
            }
        }
    }

    #[test]
    fn an_old_row_is_read_as_the_new_form() {
        let mut buf = Buf::new();
        put_value(&ThingV1 { n: 300 }, &mut buf);
        assert_eq!(buf.as_slice(), [1, 0xac, 2]);
        let thing = take_value::<Thing>(buf.as_slice()).unwrap();
        assert_eq!(
            thing,
            Thing {
                n: 300,
                colour: Colour::Red
            }
        );
        let mut buf = Buf::new();
        put_value(
            &Thing {
                n: 1,
                colour: Colour::Blue,
            },
            &mut buf,
        );
        assert_eq!(buf.as_slice(), [2, 1, 7]);
        assert!(take_value::<Thing>(&[3, 1, 7]).is_err());
        assert!(take_value::<Thing>(&[2, 1, 8]).is_err());
        // Nested in a list, each carries its own version.
        let mut list = Buf::new();
        put_value(&vec![ThingV1 { n: 1 }, ThingV1 { n: 2 }], &mut list);
        assert_eq!(take_value::<Vec<Thing>>(list.as_slice()).unwrap().len(), 2);
    }
}
