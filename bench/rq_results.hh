#pragma once
// What a run measured, one JSON line for a window, a recipe and a probe.

#include <cstdint>
#include <string>
#include <vector>

namespace kv {

struct WindowResult {
  std::string setup;  // fingerprint of model, window's tokens and options: never mix two
  std::string window, domain, recipe, shell, probe;
  std::int64_t context = 0;               // tokens
  std::int64_t values = 0;                // K and V of the whole context
  std::uint64_t bytes = 0;                // what the recipe wrote, all of it
  std::uint64_t raw_bytes = 0;            // the bf16 file it was made from
  double encode_s = 0, encode_cpu_s = 0;  // of the shell, start-up and all
  std::vector<double> kld;                // of each token, nats
  std::int64_t same_top = 0;
  std::int64_t targets = 0;  // tokens in both sums
  double nll_sum = 0, reference_nll_sum = 0;
};

std::string window_result_line(const WindowResult& result);

// All whole lines; a last one without its newline was cut off by a kill and is left out. Of lines
// with the same window, recipe and probe the last counts. Throws kInput with the line's number.
std::vector<WindowResult> read_window_results(const std::string& path);

// Cuts a torn last line off, so that whole lines can be added. Does nothing without the file.
void mend_results(const std::string& path);

}  // namespace kv
