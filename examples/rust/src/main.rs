//! A client of sessiond in Rust: it creates a session, stores, streams and watches messages, asks a
//! model, and handles an error.
//!
//! The other commands read and write one session, one message a line in base64, so that tests can
//! compare languages.

use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{engine::general_purpose::STANDARD, Engine};
use tonic::{
    metadata::{Ascii, MetadataValue},
    service::{interceptor::InterceptedService, Interceptor},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
    Code, Request, Status,
};
use tonic_types::StatusExt;

mod stubs {
    #![allow(clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/stubs.rs"));
}
use stubs::sessiond::v1::{
    conversation_service_client::ConversationServiceClient, get_messages_request::Start,
    message::Content, session_service_client::SessionServiceClient, CreateSessionRequest, Format,
    GetMessagesRequest, GetSessionRequest, Message, SendRequest, Session, StoreMessagesRequest,
    WatchRequest,
};

/// The largest response to accept. Batches have about 512 KiB, but one message may have 16 MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// How often an UNAVAILABLE server is tried. That is safe, since every change has a request_id.
const ATTEMPTS: u32 = 5;

type Transport = InterceptedService<Channel, Key>;
type Sessions = SessionServiceClient<Transport>;
type Conversations = ConversationServiceClient<Transport>;
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Sends the API key with every call.
#[derive(Clone)]
struct Key(Option<MetadataValue<Ascii>>);

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Connects to the server that the environment names: SESSIOND_TARGET, SESSIOND_API_KEY if it asks
/// for keys, SESSIOND_CA, a PEM file, if it speaks TLS.
async fn connect() -> Result<(Sessions, Conversations)> {
    let target = env::var("SESSIOND_TARGET").unwrap_or("localhost:50051".into());
    let ca = env::var("SESSIOND_CA").ok();
    let scheme = if ca.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::try_from(format!("{scheme}://{target}"))?
        // The server allows a ping every ten seconds.
        .http2_keep_alive_interval(Duration::from_secs(30));
    if let Some(path) = ca {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(path)?));
        endpoint = endpoint.tls_config(tls)?;
    }
    let channel = endpoint.connect_lazy();
    let key = match env::var("SESSIOND_API_KEY") {
        Ok(key) => Key(Some(format!("Bearer {key}").parse()?)),
        Err(_) => Key(None),
    };
    Ok((
        SessionServiceClient::with_interceptor(channel.clone(), key.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES),
        ConversationServiceClient::with_interceptor(channel, key)
            .max_decoding_message_size(MAX_MESSAGE_BYTES),
    ))
}

#[tokio::main]
async fn main() -> Result<()> {
    let (mut sessions, mut conversations) = connect().await?;
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => demo(&mut sessions, &mut conversations).await,
        ["write", id] => write(&mut sessions, id).await,
        ["read", id] => read(&mut sessions, id).await,
        ["watch", id, count] => watch(&mut conversations, id, count.parse()?).await,
        ["reason", id] => {
            let request = GetSessionRequest { session_id: id.into() };
            let status = sessions.get_session(request).await.err();
            println!("{}", status.map_or("OK".into(), |status| reason_of(&status)));
            Ok(())
        }
        _ => Err(format!("unknown command {arguments:?}").into()),
    }
}

async fn demo(sessions: &mut Sessions, conversations: &mut Conversations) -> Result<()> {
    // Create.
    let id = format!("rust-{}", unique());
    let session = sessions
        .create_session(CreateSessionRequest {
            session: Some(Session {
                session_id: id.clone(),
                model: "echo".into(),
                ..Default::default()
            }),
            request_id: format!("{id}-create"),
            ..Default::default()
        })
        .await?
        .into_inner();
    println!("created {}", session.session_id == id);

    // Store. A repeated request_id stores nothing, and gets the response of the first call.
    for _ in 0..2 {
        let request = StoreMessagesRequest {
            session_id: id.clone(),
            messages: vec![openai(r#"{"role": "user", "content": "Hello"}"#.into())],
            request_id: format!("{id}-store"),
            ..Default::default()
        };
        println!("stored at {}", store(sessions, request).await?);
    }

    // Stream.
    read(sessions, &id).await?;

    // Send. Deltas come while the model writes; the events with a seq are what is stored.
    let mut turn = conversations
        .send(SendRequest {
            session_id: id.clone(),
            prompt: "How are you?".into(),
            request_id: format!("{id}-send"),
            ..Default::default()
        })
        .await?
        .into_inner();
    let mut text = String::new();
    while let Some(step) = turn.message().await? {
        for event in step.events {
            if event.r#type == "assistant.message_delta" {
                let data = event.data.unwrap_or_default();
                if let Some(prost_types::value::Kind::StringValue(delta)) =
                    data.fields.get("delta_content").and_then(|value| value.kind.clone())
                {
                    text.push_str(&delta);
                }
            }
        }
    }
    println!("model: {text}");

    // Watch, from the beginning.
    watch(conversations, &id, 3).await?;

    // An error has a reason.
    let request = GetSessionRequest { session_id: "no-such-session".into() };
    let status = sessions.get_session(request).await.unwrap_err();
    println!("error: {}", reason_of(&status));
    Ok(())
}

fn unique() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

fn openai(json: String) -> Message {
    Message {
        format: Format::Openai as i32,
        content: Some(Content::Json(json)),
        ..Default::default()
    }
}

fn json_of(message: Message) -> String {
    match message.content {
        Some(Content::Json(json)) => json,
        _ => String::new(),
    }
}

/// Stores messages, and returns the seq of the first. Tries again while the server is UNAVAILABLE.
async fn store(sessions: &mut Sessions, request: StoreMessagesRequest) -> Result<i64> {
    for attempt in 0.. {
        match sessions.store_messages(request.clone()).await {
            Ok(stored) => return Ok(stored.into_inner().first_seq),
            Err(status) if status.code() == Code::Unavailable && attempt + 1 < ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
            }
            Err(status) => return Err(status.into()),
        }
    }
    unreachable!()
}

/// Stores the messages on standard input.
async fn write(sessions: &mut Sessions, id: &str) -> Result<()> {
    let session = Session { session_id: id.into(), ..Default::default() };
    sessions
        .create_session(CreateSessionRequest {
            session: Some(session),
            get_or_create: true,
            ..Default::default()
        })
        .await?;
    let mut messages = Vec::new();
    for line in io::stdin().lock().lines() {
        messages.push(openai(String::from_utf8(STANDARD.decode(line?)?)?));
    }
    let request = StoreMessagesRequest {
        session_id: id.into(),
        messages,
        request_id: unique().to_string(),
        ..Default::default()
    };
    store(sessions, request).await?;
    Ok(())
}

/// Prints a session's messages. A stream that breaks is resumed from its last resume_token.
async fn read(sessions: &mut Sessions, id: &str) -> Result<()> {
    let mut request = GetMessagesRequest { session_id: id.into(), ..Default::default() };
    loop {
        match read_batches(sessions, &mut request).await {
            Err(status) if status.code() == Code::Unavailable => continue,
            ended => return Ok(ended?),
        }
    }
}

async fn read_batches(
    sessions: &mut Sessions,
    request: &mut GetMessagesRequest,
) -> std::result::Result<(), Status> {
    let mut batches = sessions.get_messages(request.clone()).await?.into_inner();
    while let Some(batch) = batches.message().await? {
        for message in batch.messages {
            println!("{}", STANDARD.encode(json_of(message)));
        }
        request.start = Some(Start::ResumeToken(batch.resume_token));
    }
    Ok(())
}

/// Prints the first messages of a session, and waits for those that are still to come.
async fn watch(conversations: &mut Conversations, id: &str, count: usize) -> Result<()> {
    let mut left = count;
    let request = WatchRequest {
        session_id: id.into(),
        after_seq: Some(0),
        ..Default::default()
    };
    let mut events = conversations.watch(request).await?.into_inner();
    while left > 0 {
        let Some(response) = events.message().await? else { break };
        for event in response.events.into_iter().filter(|event| event.seq > 0).take(left) {
            println!("{}", STANDARD.encode(json_of(event.message.unwrap_or_default())));
            left -= 1;
        }
    }
    Ok(())
}

/// The reason of an error, such as SESSION_NOT_FOUND; if there is none, its status code.
fn reason_of(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) => info.reason,
        None => format!("{:?}", status.code()),
    }
}
