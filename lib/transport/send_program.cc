#include "kv/base/json.hh"
#include "kv/stream/varint.hh"
#include "kv/transport/programs.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>

namespace kv {
namespace {

using nlohmann::json;

constexpr std::size_t kReadBytes = 1 << 16;
constexpr std::size_t kMaxLineBytes = 1 << 20;
constexpr std::size_t kDatagramsAtOnce = 256;
constexpr std::uint64_t kMaxId = 0xFFFFFFFF;
constexpr TimeNs kSilence = 3 * kSecond;  // a receiver under way says something once a second

// Tokens as they come in, with the stream they belong to.
class TokenInput {
 public:
  using Token = std::function<void(const std::string&, ByteView, bool end)>;
  TokenInput(Input input, bool jsonl, bool ids)
      : input_(std::move(input)), jsonl_(jsonl), ids_(ids) {}
  int fd() const { return input_.fd(); }

  // Takes what is there; false at the end.
  bool read(const Token& token) {
    const std::size_t kept = buffer_.size();
    buffer_.resize(kept + kReadBytes);
    const std::size_t got = input_.read_some(std::span(buffer_).subspan(kept));
    buffer_.resize(kept + got);
    const std::size_t used = jsonl_ ? lines(token, got == 0) : text(token, got == 0);
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(used));
    return got > 0;
  }

 private:
  // Whole characters: the beginning of one waits for its rest, four bytes at most.
  std::size_t text(const Token& token, bool end) const {
    std::size_t size = buffer_.size();
    for (std::size_t back = 1; !end && back <= std::min<std::size_t>(3, size); ++back) {
      const auto byte = std::to_integer<unsigned>(buffer_[size - back]);
      if ((byte & 0xC0) == 0x80) continue;
      const std::size_t wants = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
      if (wants > back) size -= back;
      break;
    }
    if (size > 0) token("", ByteView(buffer_).first(size), false);
    return size;
  }

  std::size_t lines(const Token& token, bool end) {
    std::size_t used = 0;
    while (used < buffer_.size()) {
      const ByteView rest = ByteView(buffer_).subspan(used);
      const void* newline = std::memchr(rest.data(), '\n', rest.size());
      if (newline == nullptr && !end) {
        if (rest.size() > kMaxLineBytes) bad("longer than 1 MiB");
        break;
      }
      const std::size_t size =
          newline == nullptr
              ? rest.size()
              : static_cast<std::size_t>(static_cast<const std::byte*>(newline) - rest.data());
      ++line_;
      one_line(as_text(rest.first(size)), token);
      used += std::min(size + 1, rest.size());
    }
    return used;
  }

  void one_line(std::string_view line, const Token& token) const {
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    if (json_too_deep(line, 16)) bad("nested too deep");
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object()) bad("no JSON object");
    const auto text = object.find("text"), stream = object.find("stream"), end = object.find("end");
    if (text != object.end() && !text->is_string()) bad("\"text\" is no string");
    if (stream != object.end() && !stream->is_string()) bad("\"stream\" is no string");
    if (end != object.end() && !end->is_boolean()) bad("\"end\" is neither true nor false");
    const bool ends = end != object.end() && end->get<bool>();
    const std::string nothing;
    const std::string& name =
        stream == object.end() ? nothing : stream->get_ref<const std::string&>();
    if (ids_) {
      const auto id = object.find("id");
      if (id == object.end() && !ends) bad("neither \"id\" nor \"end\"");
      Bytes bytes;
      if (id != object.end()) {
        if (!id->is_number_unsigned() || *id > kMaxId) bad("\"id\" is no id");
        put_varint(bytes, id->get<std::uint64_t>());
      }
      token(name, bytes, ends);
      return;
    }
    if (text == object.end() && !ends) bad("neither \"text\" nor \"end\"");
    token(name, as_bytes(text == object.end() ? nothing : text->get_ref<const std::string&>()),
          ends);
  }

  [[noreturn]] void bad(const char* what) const {
    fail_input("{}: line {}: {}", input_.name(), line_, what);
  }

  Input input_;
  bool jsonl_, ids_;
  Bytes buffer_;
  std::uint64_t line_ = 0;
};

}  // namespace

SendReport send_streams(const SendOptions& options, Input input,
                        const std::function<void(const Peer&)>& listening) {
  UdpSocket socket = UdpSocket::bind(options.listen);
  if (!options.server.key.there() && !is_loopback(socket.local())) {
    fail_usage("{}: give --key FILE, or listen on 127.0.0.1 or [::1]", peer_text(socket.local()));
  }
  listening(socket.local());
  StreamServer server(options.server,
                      [&](const Peer& to, ByteView datagram) { socket.send(to, datagram); });
  TokenInput tokens(std::move(input), options.jsonl, options.server.ids);
  SendReport report;
  Poller poller;
  poller.add(socket.fd());
  poller.add(tokens.fd());
  if (!options.jsonl) server.push(clock_now(), "", {});  // a text is a stream even if it is empty
  bool reading = true;
  TimeNs alone_since = clock_now();
  TimeNs before = clock_now();
  while (reading || server.delivered() < options.receivers ||
         server.heard_since(before - kSilence)) {
    TimeNs until = server.wake_at();
    if (!reading && server.sessions() == 0) {
      until = std::min(until, alone_since + options.server.patience);
      if (before >= alone_since + options.server.patience) break;
    }
    bool input_ready = false, socket_ready = false;
    for (const int fd : poller.wait(until)) (fd == socket.fd() ? socket_ready : input_ready) = true;
    const TimeNs now = clock_now();
    const TimeNs due = std::min(now, std::max(until, before));
    if (socket_ready) {
      socket.receive(kDatagramsAtOnce, [&](const Peer& from, ByteView datagram) {
        server.receive(now, from, datagram);
      });
    }
    if (input_ready && reading) {
      reading = tokens.read([&](const std::string& stream, ByteView token, bool end) {
        ++report.tokens;
        report.text_bytes += token.size();
        server.push(now, stream, token);
        if (end) server.finish(now, stream);
      });
      if (!reading) {
        poller.remove(tokens.fd());
        server.finish_all(now);
      }
    }
    server.wake(now);
    socket.flush();
    if (server.sessions() > 0 || reading) alone_since = now;
    before = clock_now();
    // What makes streams stall when there are too many.
    report.latest_ns = std::max(report.latest_ns, before - due);
  }
  report.counts = server.counts();
  report.delivered = server.delivered();
  report.lost = server.lost();
  if (report.delivered < options.receivers) {
    fail(ErrorKind::kIo,
         "{}: nothing was heard for {} s; {} of {} receivers have all of the {} bytes",
         peer_text(socket.local()), options.server.patience / kSecond, report.delivered,
         options.receivers, report.text_bytes);
  }
  return report;
}

}  // namespace kv
