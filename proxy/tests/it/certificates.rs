//! Certificates that change while they are served.

use super::*;

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

async fn tls(running: &Running, roots: &RootCertStore) -> std::io::Result<Stream> {
    let tcp = TcpStream::connect(running.tcp()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    connector(roots.clone(), &[]).connect(name, tcp).await
}

async fn soon(running: &Running, roots: &RootCertStore) {
    for _ in 0..100 {
        if tls(running, roots).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the new certificate is not served");
}

#[tokio::test]
async fn a_changed_certificate_is_served_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (files, old) = certificate(dir.path());
    let limits = Limits {
        certificate_check: Duration::from_millis(100),
        ..Limits::default()
    };
    let running = start(&spec(any_port(), Some(files)), limits).await;
    let mut open = tls(&running, &old).await.unwrap();

    let (_, new) = certificate(dir.path());
    soon(&running, &new).await;
    assert!(tls(&running, &old).await.is_err());
    // What was open goes on.
    let ask = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    open.write_all(ask).await.unwrap();
    let mut answer = [0; 512];
    let read = open.read(&mut answer).await.unwrap();
    assert!(answer[..read].ends_with(b"here"));

    // Neither nonsense nor a key that does not belong to it replaces what is good.
    let cert = dir.path().join("cert.pem");
    std::fs::write(&cert, "nonsense").unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(tls(&running, &new).await.is_ok());
    let other = tempfile::tempdir().unwrap();
    certificate(other.path());
    std::fs::copy(other.path().join("cert.pem"), &cert).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(tls(&running, &new).await.is_ok());
    std::fs::remove_file(&cert).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(tls(&running, &new).await.is_ok());

    let (_, mended) = certificate(dir.path());
    soon(&running, &mended).await;
    open.write_all(ask).await.unwrap();
    assert!(open.read(&mut answer).await.unwrap() > 0);
}

#[tokio::test]
async fn they_are_read_at_once_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (files, _) = certificate(dir.path());
    let running = start(&spec(any_port(), Some(files)), Limits::default()).await;
    let (_, new) = certificate(dir.path());
    assert!(tls(&running, &new).await.is_err());
    running.reload.send_replace(());
    soon(&running, &new).await;
}
