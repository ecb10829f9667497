#pragma once
// What a StreamServer keeps of a stream and of a session. Private to the folder.

#include "kv/base/hash.hh"
#include "kv/transport/server.hh"

namespace kv {

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

}  // namespace kv
