#pragma once
// What tokstream-send and tokstream-recv have in common.

#include "kv/transport/programs.hh"
#include "tool.hh"

namespace kv {

struct TransportText {
  std::string key;
  double patience_s = 30;
  bool stats = false;
};

inline void declare_transport(CLI::App& app, TransportText& t) {
  app.add_option("-k,--key", t.key, "the secret of both sides is in FILE")->type_name("FILE");
  app.add_option("--timeout", t.patience_s, "of silence, then the other side is lost (default: 30)")
      ->type_name("S");
  app.add_flag("--stats", t.stats, "print counts as JSON on stderr");
}

inline SharedKey key_of(const TransportText& t) {
  if (t.key.empty()) return {};
  constexpr std::uint64_t kMostBytes = 1 << 16;
  Bytes secret = Input::open(t.key).read_all(kMostBytes);
  while (!secret.empty() && secret.back() == std::byte{'\n'}) secret.pop_back();
  return SharedKey(secret);
}

inline TimeNs patience_of(const TransportText& t) {
  if (!(t.patience_s >= 1) || t.patience_s > 86400) {
    fail_usage("--timeout {:g}: give seconds from 1 to 86400", t.patience_s);
  }
  return static_cast<TimeNs>(t.patience_s * 1e9);
}

}  // namespace kv
