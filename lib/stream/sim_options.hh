#pragma once
// The options of tokstream-sim as text.

#include "kv/stream/experiment.hh"

namespace kv {

// A path.
struct NetworkText {
  std::string loss = "none", ack_loss;  // parse_loss; ack_loss empty: as loss
  std::string down, up;                 // read_capacity's files, forward and back
  double delay_ms = 50, jitter_ms = 0;  // each way
  double reorder = 0, reorder_ms = 20;
  std::uint64_t queue_bytes = 150'000;
};
// Both directions. Throws kUsage for values out of range, kInput and kIo for bad files.
void set_network(const NetworkText& text, LinkOptions& forward, LinkOptions& back);

struct SourceText {
  std::string trace;  // read_token_trace's file; then rate and jitter mean nothing
  double rate_per_s = 20, jitter = 0.1;
  std::uint64_t tokens = 1000;
  std::string payload = "ids";
};
// Throws kUsage, kInput, kIo.
SourceOptions source_of(const SourceText& text);

// Throws kUsage for no streams or seeds, and for packets or padding out of range.
void check_counts(const ExperimentOptions& options);

// 0 to 100 s. Throws kUsage with the option's name.
TimeNs milliseconds(double value, const char* option);
// "200" or "200,100,500", in milliseconds. Throws kUsage.
std::vector<TimeNs> parse_thresholds(const std::string& text);

}  // namespace kv
