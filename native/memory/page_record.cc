#include "memory/page_record.h"

#include <set>

namespace rdma_migrate::memory {

std::vector<PageBlock> make_page_blocks(
    const std::vector<std::pair<std::string, std::shared_ptr<Mapping>>>& blocks, bool to_be_written) {
  std::vector<PageBlock> result;
  std::set<std::string> names;
  for (const auto& [name, mapping] : blocks) {
    if (name.empty() || name.size() > kMaxBlockName) {
      throw Error("INVALID_ARGUMENT",
                  "a RAM block's name has 1 to 255 bytes, this one has " + std::to_string(name.size()));
    }
    if (!names.insert(name).second) throw Error("INVALID_ARGUMENT", "RAM block " + name + " is listed twice");
    if (to_be_written) mapping->check_writable(0, mapping->length(), "reading a stream");
    result.push_back({name, mapping, mapping->length()});
  }
  return result;
}

std::shared_ptr<Mapping> lock(const PageBlock& block) {
  auto mapping = block.mapping.lock();
  if (!mapping) throw Error("CLOSED", "the mapping of RAM block " + block.name + " has been closed");
  return mapping;
}

}  // namespace rdma_migrate::memory
