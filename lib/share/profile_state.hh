#pragma once
// What profiling has measured so far, on disk after each prompt. Private to the folder.

#include "kv/share/share_plan.hh"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace kv {

// Of one prompt and group.
struct GroupRecord {
  std::vector<double> divergence;  // by token
  double same = 0;                 // share of tokens
  double nll = 0, f1 = 0;
};
struct PassRecord {
  std::vector<GroupRecord> groups;  // in the pass's order
  std::vector<double> sensitivity;
  double nll_own = 0, f1_own = 0;
  double prefills = 0;  // computed for it
};

class ProfileState {
 public:
  // Reads the file when it is there. `description` says what the numbers depend on. Throws kInput
  // when they were of something else, or the file is damaged.
  ProfileState(std::string path, std::string description);
  // "refined 3": pass and prompt. Null when it is to be measured.
  const PassRecord* find(const std::string& key) const;
  const PassRecord& keep(const std::string& key, PassRecord record);

 private:
  void save() const;

  std::string path_, description_;
  std::map<std::string, PassRecord> records_;
};

}  // namespace kv
