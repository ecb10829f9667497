#pragma once
// What tokstream-sim prints.

#include "kv/stream/experiment.hh"

namespace kv {

// A table for people: a row a scheme, the network and the seeds above it.
std::string experiment_text(const ExperimentOptions& options,
                            const std::vector<SchemeResult>& results);
// One JSON object on one line. Numbers that do not exist, such as an interval of one seed, are
// null.
std::string experiment_json(const ExperimentOptions& options,
                            const std::vector<SchemeResult>& results);
// A drawing: stall ratio and bytes of each scheme with their intervals, then a stream's first
// `seconds` under the first scheme and the last: tokens as they were made and shown, packets that
// were lost, packets that brought old tokens, and stalls. Legible on light and dark pages.
std::string experiment_svg(const ExperimentOptions& options,
                           const std::vector<SchemeResult>& results, double seconds);

}  // namespace kv
