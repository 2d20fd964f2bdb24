//! The format on disk is pinned down: a change here needs a new version of the record.

use std::collections::HashMap;

use skerry_core::{EventNid, Membership, Order, Pos, RoomNid, UserNid};
use skerry_store::codec::{Buf, Field, Key};
use skerry_store::schema::room::{Member, MemberTable, Timeline};
use skerry_store::schema::store::{HeadRow, Log, NameKind};
use skerry_store::{Change, Table, schema};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key<T: Table>(key: &T::Key) -> String {
    let mut buf = Buf::new();
    buf.slice(&T::ID);
    key.encode(&mut buf);
    hex(buf.as_slice())
}

fn value<T: Field>(value: &T) -> String {
    let mut buf = Buf::new();
    value.put(&mut buf);
    hex(buf.as_slice())
}

#[test]
fn no_two_tables_share_a_name_or_an_id() {
    let mut ids = HashMap::new();
    for table in schema::all() {
        if let Some(other) = ids.insert(table.id, table.name) {
            panic!("{} and {} have the same id", table.name, other);
        }
        assert_ne!(table.id, [0xff, 0xff], "{}", table.name);
    }
}

#[test]
fn every_declared_table_is_listed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/schema");
    let files = std::fs::read_dir(folder).unwrap();
    let sources = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let declared: usize = sources.map(|s| s.matches("\ntable!(").count()).sum();
    assert_eq!(schema::all().count(), declared);
}

#[test]
fn the_list_of_tables() {
    let list: String = schema::all()
        .map(|t| {
            let id = hex(&t.id);
            format!(
                "{} {id} {:?} {:?} {} => {}\n",
                t.name, t.owner, t.profile, t.key, t.value
            )
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tables.txt");
    if std::env::var_os("SKERRY_BLESS").is_some() {
        std::fs::write(path, &list).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        list, golden,
        "a table changed; if that is meant, run with SKERRY_BLESS=1"
    );
}

#[test]
fn rows_as_bytes() {
    let order = Order {
        anchor: Pos(0x0102),
        n: -1,
    };
    assert_eq!(
        key::<Timeline>(&(RoomNid(3), order)),
        format!(
            "{}00000000000000030000000000000102{}",
            hex(&Timeline::ID),
            "7fffffffffffffff"
        )
    );
    assert_eq!(
        key::<Log>(&Pos(7)),
        format!("{}0000000000000007", hex(&Log::ID))
    );
    assert_eq!(
        key::<MemberTable>(&(RoomNid(1), UserNid(2))),
        format!("{}00000000000000010000000000000002", hex(&MemberTable::ID))
    );
    let member = Member {
        membership: Membership::Join,
        event: EventNid(300),
        pos: Pos(9),
        forgotten: false,
    };
    assert_eq!(value(&member), "0102ac02000000000000000900");
    assert_eq!(
        value(&Change::Timeline {
            room: RoomNid(1),
            event: EventNid(2),
            sender: UserNid(3)
        }),
        "01010203"
    );
    let head = HeadRow {
        head: Pos(1),
        next_event: 2,
        next_state: 3,
    };
    assert_eq!(value(&head), "0100000000000000010203");
    let mut buf = Buf::new();
    (NameKind::User, b"a\0b".to_vec()).encode(&mut buf);
    assert_eq!(hex(buf.as_slice()), "016100ff620000");
}
