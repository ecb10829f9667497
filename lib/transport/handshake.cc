// How sessions begin, and who and where the receiver is: HELLO, WELCOME and acknowledgements.
#include "kv/transport/messages.hh"
#include "kv/transport/session.hh"

namespace kv {

void StreamServer::hello(TimeNs now, const Peer& from, const Envelope& envelope,
                         ByteView datagram) {
  Salt salt;
  Hello hello;
  if (envelope.number != 0 || !parse_salt(envelope, datagram, salt)) {
    ++counts_.malformed;
    return;
  }
  if (!Seal(options_.key, "hello", salt, {}).open(envelope, salt.size(), datagram, body_)) {
    ++counts_.foreign;
    return;
  }
  if (!parse_hello(body_, hello)) {
    ++counts_.malformed;
    return;
  }
  if (const auto at = sessions_.find(envelope.session); at != sessions_.end()) {
    Session& session = *at->second;
    if (session.receiver_salt != salt) {
      refuse(from, envelope.session, salt, CloseReason::kTaken);
    } else if (!session.confirmed) {
      session.path_known = session.path_known && from == session.peer;
      welcome(session, from);  // the first was lost
    }
    return;
  }
  const auto stream = streams_.find(hello.stream);
  if (stream == streams_.end() && closed_) {
    refuse(from, envelope.session, salt, CloseReason::kNoStream);
  } else if (sessions_.size() >= options_.most_sessions) {
    refuse(from, envelope.session, salt, CloseReason::kFull);
  } else if (stream != streams_.end() && stream->second->finished &&
             hello.offset > stream->second->text.size()) {
    refuse(from, envelope.session, salt, CloseReason::kBeyond);
  } else {
    auto session = std::make_unique<Session>();
    session->id = envelope.session;
    session->peer = from;
    session->receiver_salt = salt;
    session->sender_salt = random_salt();
    session->welcome = Seal(options_.key, "welcome", salt, session->sender_salt);
    session->data = Seal(options_.key, "data", salt, session->sender_salt);
    session->ack = Seal(options_.key, "ack", salt, session->sender_salt);
    session->previous = hello.previous;
    session->name = hello.stream;
    session->offset = session->fed = hello.offset;
    session->beginning = hello.beginning;
    session->sender.emplace(options_.sender, hello.offset);
    session->began = session->heard = now;
    if (stream != streams_.end()) {
      session->stream = stream->second.get();
      session->stream->sessions.push_back(session->id);
    }
    Session& made = *session;
    sessions_.emplace(envelope.session, std::move(session));
    welcome(made, from);
    serve(now, made);
  }
}

void StreamServer::welcome(Session& session, const Peer& to) {
  encode_welcome({session.offset, options_.ids}, body_);
  send(to, session.welcome, {PacketType::kWelcome, session.id, 0}, body_, session.sender_salt);
}

void StreamServer::refuse(const Peer& to, std::uint32_t session, const Salt& salt,
                          CloseReason reason) {
  const auto body = static_cast<std::byte>(reason);
  const Salt own = random_salt();  // the same question may get another answer later
  send(to, Seal(options_.key, "refuse", salt, own), {PacketType::kClose, session, 0}, {&body, 1},
       own);
}

void StreamServer::acknowledge(TimeNs now, const Peer& from, Session& session,
                               const Envelope& envelope, ByteView datagram) {
  if (!session.ack.open(envelope, 0, datagram, body_)) {
    ++counts_.foreign;
    return;
  }
  AckPacket ack;
  if (!parse_ack(body_, ack)) {
    ++counts_.malformed;
    return;
  }
  const std::optional<std::uint64_t> newest = session.numbers.newest();
  if (!session.numbers.take(envelope.number)) {
    ++counts_.replayed;
    return;
  }
  session.heard = now;
  if (!session.confirmed) {
    session.confirmed = true;
    const auto previous = sessions_.find(session.previous);
    if (previous != sessions_.end() && previous->second->name == session.name &&
        previous->first != session.id) {
      drop(*previous->second);
    }
  }
  if (!newest || envelope.number > *newest) {
    if (from != session.peer || (!newest && !session.path_known)) {
      session.peer = from;
      session.path_known = false;
      session.path_first = session.sender->next_number();
    } else if (!session.path_known) {
      session.path_known =
          ack.echo >= session.path_first && ack.echo < session.sender->next_number();
    }
    if (!session.path_known) say_there(now, session);
  }
  session.sender->receive(now, ack);
  serve(now, session);
}

// Whether what the receiver has is this stream's beginning, as far as that is here. If it is not,
// the session is over.
bool StreamServer::agree(Session& session) {
  const Stream& stream = *session.stream;
  if (session.agreed || (stream.text.size() < session.offset && !stream.finished)) return true;
  if (stream.text.size() < session.offset) {
    close(session, CloseReason::kBeyond);
    return false;
  }
  if (xxh3_64(ByteView(stream.text).first(session.offset)) != session.beginning) {
    close(session, CloseReason::kOther);
    return false;
  }
  return session.agreed = true;
}

}  // namespace kv
