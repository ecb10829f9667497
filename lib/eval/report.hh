#pragma once
// What is told of a run.

#include "kv/eval/checks.hh"

#include <string>
#include <vector>

namespace kv {

// A table for people: a row a recipe, and paired differences from the one they are held against.
std::string report_text(const Summary& summary, const std::vector<Check>& checks);
// The same and each prompt's figures: what --baseline reads.
std::string report_json(const Summary& summary, const std::vector<Check>& checks);
// JUnit's XML, as CI systems read it: a suite a recipe, a case a check; a recipe without checks has
// a case that it ran.
std::string report_junit(const Summary& summary, const std::vector<Check>& checks);
// Mean KLD (log) of each recipe with its interval, as SVG.
std::string report_svg(const Summary& summary, const std::string& title);

}  // namespace kv
