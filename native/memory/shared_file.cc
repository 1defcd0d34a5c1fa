#include "memory/shared_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <climits>
#include <map>
#include <mutex>
#include <utility>

namespace rdma_migrate::memory {
namespace {

// Where the kernel says that the file is: it may have been opened by another name, such as /proc/self/fd/7.
std::string path_of(int fd) {
  std::array<char, PATH_MAX> path;
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t length = readlink(link.c_str(), path.data(), path.size());
  return length <= 0 ? std::string() : std::string(path.data(), static_cast<size_t>(length));
}

}  // namespace

struct SharedFile::Pool {
  std::mutex mutex;
  // Open and not in use, the most recently used one at the end.
  std::list<const SharedFile*> idle;
  // Folders of the files that can be reopened, each open once.
  std::map<std::pair<dev_t, ino_t>, std::weak_ptr<UniqueFd>> folders;

  std::shared_ptr<UniqueFd> folder(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat status {};
    if (!fd || fstat(fd.get(), &status) != 0) return nullptr;
    std::lock_guard lock(mutex);
    std::erase_if(folders, [](const auto& entry) { return entry.second.expired(); });
    auto& known = folders[{status.st_dev, status.st_ino}];
    auto shared = known.lock();
    if (!shared) known = shared = std::make_shared<UniqueFd>(std::move(fd));
    return shared;
  }
};

// Never destroyed: mappings may outlive the end of main().
SharedFile::Pool& SharedFile::pool() {
  static auto* const pool = new Pool;
  return *pool;
}

SharedFile::SharedFile(UniqueFd fd, std::string name, int flags, bool can_reopen)
    : name_(std::move(name)), flags_(flags), can_reopen_(can_reopen), fd_(std::move(fd)) {
  if (can_reopen_) find_folder();
  // As if a use had ended: it is the newest of those that may be closed.
  uses_ = 1;
  end_use();
}

SharedFile::~SharedFile() {
  {
    std::lock_guard lock(pool().mutex);
    if (can_reopen_ && fd_) pool().idle.erase(idle_);
  }
  fd_.reset();  // may wait for a file server; nothing else waits with it
}

void SharedFile::find_folder() {
  const std::string path = path_of(fd_.get());
  const size_t slash = path.rfind('/');
  struct stat own {};
  struct stat named {};
  can_reopen_ = false;
  if (slash == std::string::npos || fstat(fd_.get(), &own) != 0) return;
  folder_ = pool().folder(slash == 0 ? "/" : path.substr(0, slash));
  base_ = path.substr(slash + 1);
  if (!folder_ || fstatat(folder_->get(), base_.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0) return;
  device_ = own.st_dev;
  inode_ = own.st_ino;
  can_reopen_ = named.st_dev == device_ && named.st_ino == inode_;
}

UniqueFd SharedFile::open_again() const {
  UniqueFd fd(openat(folder_->get(), base_.c_str(), flags_ | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd && (errno == EMFILE || errno == ENFILE)) {
    throw Error("RESOURCE_LIMIT", "no descriptor is left to open " + name_ + " (ulimit -n)", errno);
  }
  struct stat status {};
  if (fd && fstat(fd.get(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_) return fd;
  throw Error("IO_ERROR", name_ + " was removed, moved or replaced while it was mapped", fd ? 0 : errno);
}

// Files are opened and closed without the lock: a server that hangs blocks no other use.
int SharedFile::begin_use() const {
  UniqueFd opened;
  for (;;) {
    {
      std::lock_guard lock(pool().mutex);
      if (!fd_ && opened) {
        fd_ = std::move(opened);
        return take();
      }
      if (fd_) {
        if (can_reopen_ && uses_ == 0) pool().idle.erase(idle_);
        return take();
      }
    }
    opened = open_again();
  }
}

int SharedFile::take() const {
  ++uses_;
  return fd_.get();
}

void SharedFile::end_use() const {
  UniqueFd closed;  // after the lock
  std::lock_guard lock(pool().mutex);
  if (--uses_ > 0 || !can_reopen_) return;
  auto& idle = pool().idle;
  idle_ = idle.insert(idle.end(), this);
  if (idle.size() <= kMostIdle) return;
  closed = std::move(idle.front()->fd_);
  idle.pop_front();
}

SharedFile::Use::Use(const SharedFile& file) : file_(file), fd_(file.begin_use()) {}

// errno of a system call on the file must survive this.
SharedFile::Use::~Use() {
  const int kept = errno;
  file_.end_use();
  errno = kept;
}

}  // namespace rdma_migrate::memory
