// Streams, what is sent of them, and when. How sessions begin is in handshake.cc.
#include "kv/transport/messages.hh"
#include "kv/transport/session.hh"

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
