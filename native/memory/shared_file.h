// The file of a mapping. Once mapped it is needed only now and then: to find holes, to store, to
// sync. Only a bounded number of files is therefore open at one time; the others are reopened when they
// are used.
#pragma once

#include <sys/types.h>

#include <list>
#include <memory>
#include <string>

#include "fd.h"

namespace rdma_migrate::memory {

class SharedFile {
 public:
  // Up to this many files that are not in use at the moment stay open, in this process.
  static constexpr size_t kMostIdle = 128;

  // name: for messages. flags: of open(2), to reopen it. can_reopen false: it stays open, as a file without a
  // name must (a memfd, the duplicate of a caller's descriptor).
  SharedFile(UniqueFd fd, std::string name, int flags, bool can_reopen);
  ~SharedFile();
  SharedFile(const SharedFile&) = delete;
  SharedFile& operator=(const SharedFile&) = delete;

  // Holds it open.
  class Use {
   public:
    explicit Use(const SharedFile& file);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    int get() const { return fd_; }

   private:
    const SharedFile& file_;
    int fd_;
  };

  // The file must not be moved out of its folder or replaced. Throws Error: IO_ERROR, RESOURCE_LIMIT.
  Use use() const { return Use(*this); }

 private:
  friend class Use;
  struct Pool;
  static Pool& pool();

  void find_folder();
  UniqueFd open_again() const;
  int begin_use() const;
  // Under the pool's mutex, with the file open.
  int take() const;
  void end_use() const;

  const std::string name_;
  const int flags_;
  bool can_reopen_;
  // The folder that it is in: the file is found there even if the folder has been renamed.
  std::shared_ptr<UniqueFd> folder_;
  std::string base_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  // Guarded by the pool's mutex, as is the place in its list.
  mutable UniqueFd fd_;
  mutable unsigned uses_ = 0;
  mutable std::list<const SharedFile*>::iterator idle_;
};

}  // namespace rdma_migrate::memory
