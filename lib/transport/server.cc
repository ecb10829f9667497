#include "kv/transport/server.hh"

#include "kv/base/hash.hh"
#include "kv/transport/messages.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr std::size_t kHeaderBytes = 5 + 9;
constexpr std::uint64_t kAhead = 16 << 10;  // unacknowledged bytes of a session: RFC 6928's window
constexpr std::size_t kFeedBytes = 1000;
constexpr TimeNs kUnconfirmed = 5 * kSecond;
constexpr TimeNs kKeepAlive = 1 * kSecond;

bool continues_character(std::byte byte) { return (byte & std::byte{0xC0}) == std::byte{0x80}; }

}  // namespace

struct StreamServer::Stream {
  Bytes text;
  StreamHash hash;
  bool finished = false;
  std::vector<std::uint32_t> sessions;
};

struct StreamServer::Session {
  std::uint32_t id = 0, previous = 0;
  Peer peer;
  Salt receiver_salt{}, sender_salt{};
  Seal welcome, data, ack;
  Stream* stream = nullptr;  // null: waits for one of this name
  std::string name;
  std::uint64_t offset = 0, beginning = 0;  // where it began, and the hash of what is before
  std::optional<StreamSender> sender;
  std::uint64_t fed = 0;
  bool agreed = false, told_end = false, confirmed = false;
  // Where packets go was asked, and answers. Else numbers from here on were sent there.
  bool path_known = true;
  std::uint64_t path_first = 0;
  ReplayWindow numbers;
  TimeNs began = 0, heard = 0, wakes = kNever;
};

StreamServer::StreamServer(const ServerOptions& options, Transmit transmit)
    : options_(options), transmit_(std::move(transmit)) {
  options_.sender.envelope_bytes =
      kHeaderBytes + Seal(options.key, "data", {}, {}).overhead_bytes();
}

StreamServer::~StreamServer() = default;

void StreamServer::send(const Peer& to, const Seal& seal, const Envelope& envelope, ByteView body,
                        ByteView clear) {
  seal.close(envelope, clear, body, datagram_);
  ++counts_.datagrams;
  counts_.bytes += datagram_.size();
  transmit_(to, datagram_);
}

void StreamServer::push(TimeNs now, const std::string& name, ByteView token) {
  if (name.size() > kMaxName)
    fail_input("a stream's name of {} bytes, at most {}", name.size(), kMaxName);
  std::unique_ptr<Stream>& stream = streams_[name];
  if (!stream) {
    stream = std::make_unique<Stream>();
    for (auto& entry : sessions_) {  // those that asked before there was anything
      if (entry.second->stream != nullptr || entry.second->name != name) continue;
      entry.second->stream = stream.get();
      stream->sessions.push_back(entry.first);
    }
  }
  if (stream->finished) fail_input("stream '{}': a token behind its end", name);
  if (token.size() > options_.most_bytes - stored_bytes_) {
    fail_input("the streams are longer than {} MiB", options_.most_bytes >> 20);
  }
  stored_bytes_ += token.size();
  stream->text.insert(stream->text.end(), token.begin(), token.end());
  stream->hash.add(token);
  const std::vector<std::uint32_t> ids = stream->sessions;  // serve() may end some
  for (const std::uint32_t id : ids) serve(now, *sessions_.at(id));
}

void StreamServer::finish(TimeNs now, const std::string& name) {
  push(now, name, {});
  Stream& stream = *streams_.at(name);
  stream.finished = true;
  const std::vector<std::uint32_t> ids = stream.sessions;  // serve() may end sessions
  for (const std::uint32_t id : ids) serve(now, *sessions_.at(id));
}

void StreamServer::finish_all(TimeNs now) {
  closed_ = true;
  for (auto& entry : streams_) {
    if (!entry.second->finished) finish(now, entry.first);
  }
  std::vector<std::uint32_t> waiting;
  for (auto& entry : sessions_) {
    if (entry.second->stream == nullptr) waiting.push_back(entry.first);
  }
  for (const std::uint32_t id : waiting) close(*sessions_.at(id), CloseReason::kNoStream);
}

void StreamServer::receive(TimeNs now, const Peer& from, ByteView datagram) {
  ++counts_.received;
  Envelope envelope;
  if (!parse_envelope(datagram, options_.key.there(), envelope)) {
    ++counts_.malformed;
    return;
  }
  const auto at = sessions_.find(envelope.session);
  if (envelope.type == PacketType::kHello) {
    hello(now, from, envelope, datagram);
  } else if (envelope.type != PacketType::kAck || at == sessions_.end()) {
    ++counts_.foreign;
  } else {
    acknowledge(now, from, *at->second, envelope, datagram);
  }
}

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

// Text that the session has room for. Cut between characters, though tokens of the past are
// forgotten.
void StreamServer::feed(Session& session) {
  const Bytes& text = session.stream->text;
  StreamSender& sender = *session.sender;
  while (session.fed < text.size() && sender.end() - sender.acknowledged() < kAhead) {
    std::size_t size = std::min<std::size_t>(kFeedBytes, text.size() - session.fed);
    while (!options_.ids && size > 1 && session.fed + size < text.size() &&
           continues_character(text[session.fed + size])) {
      --size;
    }
    sender.push(ByteView(text).subspan(session.fed, size));
    session.fed += size;
  }
  if (session.fed == text.size() && session.stream->finished && !session.told_end) {
    sender.finish(session.stream->hash.value());
    session.told_end = true;
  }
}

void StreamServer::serve(TimeNs now, Session& session) {
  StreamSender& sender = *session.sender;
  const bool open = session.confirmed && session.path_known;
  if (open && session.stream != nullptr) {
    if (!agree(session)) return;
    if (session.agreed && !session.told_end) feed(session);
    while (sender.next_packet(now, packet_)) {
      body_.clear();
      encode_data(packet_, options_.sender.pad_to, body_);
      send(session.peer, session.data, {PacketType::kData, session.id, packet_.number}, body_);
    }
    if (sender.done()) {
      ++delivered_;
      close(session, CloseReason::kFinished);
      return;
    }
  }
  const TimeNs lost_at = session.heard + (session.confirmed ? options_.patience : kUnconfirmed);
  const TimeNs silent_at = std::max(sender.last_sent(), session.began) + kKeepAlive;
  const TimeNs wakes = !session.confirmed ? lost_at
                       : open             ? std::min({sender.wake_at(), silent_at, lost_at})
                                          : std::min(silent_at, lost_at);
  if (wakes != session.wakes) {
    session.wakes = wakes;
    wakes_.emplace(wakes, session.id);
  }
}

void StreamServer::say_there(TimeNs now, Session& session) {
  session.sender->keep_alive(now, packet_);
  body_.clear();
  encode_data(packet_, options_.sender.pad_to, body_);
  send(session.peer, session.data, {PacketType::kData, session.id, packet_.number}, body_);
}

void StreamServer::close(Session& session, CloseReason reason) {
  const auto body = static_cast<std::byte>(reason);
  // Twice, for nobody answers; who misses both ends by itself.
  for (std::uint64_t i = 0; i < 2; ++i) {
    send(session.peer, session.data,
         {PacketType::kClose, session.id, session.sender->next_number() + i}, {&body, 1});
  }
  drop(session);
}

void StreamServer::drop(Session& session) {
  if (session.stream != nullptr) std::erase(session.stream->sessions, session.id);
  sessions_.erase(session.id);
}

bool StreamServer::heard_since(TimeNs then) const {
  return std::any_of(sessions_.begin(), sessions_.end(), [&](const auto& entry) {
    return entry.second->confirmed && entry.second->heard >= then;
  });
}

TimeNs StreamServer::wake_at() const { return wakes_.empty() ? kNever : wakes_.top().first; }

void StreamServer::wake(TimeNs now) {
  while (!wakes_.empty() && wakes_.top().first <= now) {
    const auto [at, id] = wakes_.top();
    wakes_.pop();
    const auto found = sessions_.find(id);
    if (found == sessions_.end() || found->second->wakes != at) continue;
    Session& session = *found->second;
    session.wakes = kNever;
    if (now >= session.heard + (session.confirmed ? options_.patience : kUnconfirmed)) {
      lost_ += session.confirmed ? 1 : 0;
      drop(session);
      continue;
    }
    if (session.confirmed && now >= session.sender->last_sent() + kKeepAlive) {
      say_there(now, session);
    }
    serve(now, session);
  }
}

}  // namespace kv
