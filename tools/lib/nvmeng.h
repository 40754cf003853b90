/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libnvmeng: commands of any kind to the nodes of NVMe namespaces, /dev/ngXnY,
 * with the driver of nvme-ng.  See nvmeng(3).
 *
 * The ring is a struct io_uring of liburing: whatever liburing offers goes
 * together with this.
 */
#ifndef NVMENG_H
#define NVMENG_H

#include <stddef.h>
#include <liburing.h>
#include <linux/nvme_ng.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Command Set Identifiers */
#define NVMENG_CSI_NVM	0x00
#define NVMENG_CSI_KV	0x01
#define NVMENG_CSI_ZNS	0x02

/* longest key of a Key Value namespace, bytes */
#define NVMENG_KEY_MAX	16

/* Store Options (Key Value Command Set, Store) */
#define NVMENG_STORE_REPLACE	(1U << 0) /* only if the key exists */
#define NVMENG_STORE_NEW	(1U << 1) /* only if the key does not exist */

/* struct nvmeng - an open node; threads may share it */
struct nvmeng;

/**
 * nvmeng_open() - open the node of a namespace
 * @node: such as "/dev/ng0n1"
 * @flags: O_RDONLY, or O_RDWR to send commands that change something; see
 *	access.rst for which these are
 * @dev: out: the open node
 *
 * Returns 0 or a negative errno: those of open(2), -ENOTTY if it is no such
 * node or has another driver, -EAGAIN if a multipath node has no usable path.
 */
int nvmeng_open(const char *node, int flags, struct nvmeng **dev);

/**
 * nvmeng_close() - close a node
 * @dev: the open node, or NULL
 *
 * Its regions end.  Commands in flight go on.
 */
void nvmeng_close(struct nvmeng *dev);

/* nvmeng_fd() - the descriptor of the node, for io_uring_register_files() */
int nvmeng_fd(const struct nvmeng *dev);

/**
 * nvmeng_limits() - what a command may look like
 * @dev: the open node
 *
 * Returns the limits of when the node was opened, or nvmeng_refresh() called.
 * They last as long as @dev.
 */
const struct nvme_ng_limits *nvmeng_limits(const struct nvmeng *dev);

/**
 * nvmeng_refresh() - ask the kernel for the limits again
 * @dev: the open node, for which no other thread prepares commands meanwhile
 *
 * For after a Format NVM.  Returns 0 or a negative errno: -EAGAIN if a
 * multipath node has no usable path.
 */
int nvmeng_refresh(struct nvmeng *dev);

/**
 * nvmeng_block_size() - bytes that a block has in memory
 * @dev: the open node
 *
 * With extended metadata that is data and metadata.  0 if the namespace has no
 * blocks, or its format is not known now.
 */
__u32 nvmeng_block_size(const struct nvmeng *dev);

/**
 * nvmeng_identify() - send Identify for the namespace, and wait
 * @dev: the open node
 * @cns: Controller or Namespace Structure, see access.rst for those that are
 *	free for everyone
 * @csi: Command Set Identifier, where @cns takes one
 * @data: out: 4096 bytes
 *
 * Returns 0, an NVMe status, or a negative errno: -EACCES if the process may
 * not send this, or those of a command.
 */
int nvmeng_identify(const struct nvmeng *dev, __u8 cns, __u8 csi, void *data);

/**
 * nvmeng_map() - map memory of the process for commands to come
 * @dev: the open node
 * @addr: start of the memory
 * @len: bytes, 1 to 1 TiB
 * @flags: 0 or NVME_NG_MAP_READ_ONLY
 * @region: out: the handle
 * @granule: out: separate metadata must not cross a multiple of this in memory,
 *	bytes, 0 if it may lie anywhere; or NULL
 *
 * The region ends with nvmeng_unmap() or nvmeng_close(), not with munmap().
 * Returns 0 or a negative errno, see nvme_ng_map(2).
 */
int nvmeng_map(const struct nvmeng *dev, void *addr, size_t len,
	       unsigned int flags, __u32 *region, __u32 *granule);

/**
 * nvmeng_map_dmabuf() - map a part of a dma-buf for commands to come
 * @dev: the open node
 * @fd: the dma-buf, open for writing unless NVME_NG_MAP_READ_ONLY is set
 * @offset: in the dma-buf, bytes
 * @len: bytes, 1 to 1 TiB
 * @flags: 0 or NVME_NG_MAP_READ_ONLY
 * @region: out: the handle
 * @granule: as that of nvmeng_map()
 *
 * Returns 0 or a negative errno, see nvme_ng_map(2).
 */
int nvmeng_map_dmabuf(const struct nvmeng *dev, int fd, __u64 offset, __u64 len,
		      unsigned int flags, __u32 *region, __u32 *granule);

/**
 * nvmeng_unmap() - end a region
 * @dev: the open node
 * @region: the handle
 *
 * Commands in flight go on.  Returns 0 or -ENOENT.
 */
int nvmeng_unmap(const struct nvmeng *dev, __u32 region);

/**
 * nvmeng_ring_init() - set up a ring for commands
 * @entries: commands that can be prepared before they are submitted, 1 to 32768
 * @ring: out: the ring; end it with io_uring_queue_exit()
 * @flags: IORING_SETUP_* bits beyond those that commands need, such as
 *	IORING_SETUP_IOPOLL for a ring that polls
 *
 * Only the thread that sets it up may submit and reap.  Returns 0 or a negative
 * errno, see io_uring_setup(2).
 */
int nvmeng_ring_init(unsigned int entries, struct io_uring *ring,
		     unsigned int flags);

/**
 * struct nvmeng_data - where data and metadata of a command are
 * @region: handle of a region with the data, 0 for any memory of the process
 * @len: bytes of data
 * @addr: offset in @region, or a pointer
 * @meta_region: handle of a region with separate metadata; as @region is 0 or
 *	not 0, so is this, if there is metadata
 * @meta_len: bytes of separate metadata, 0 without
 * @meta: offset in @meta_region, or a pointer
 */
struct nvmeng_data {
	__u32	region;
	__u32	len;
	__u64	addr;
	__u32	meta_region;
	__u32	meta_len;
	__u64	meta;
};

/**
 * nvmeng_prep() - prepare any command
 * @sqe: from io_uring_get_sqe() of a ring of nvmeng_ring_init()
 * @dev: the open node, which stays open until the command is submitted
 * @opcode: of any I/O command
 * @data: where its data is, NULL for none; the memory, not the structure, must
 *	last until the command has completed
 *
 * Everything in @sqe is overwritten: set user data, a registered file and other
 * flags afterwards.  Returns the command, to fill in dwords 2, 3 and 10 to 15,
 * which are 0, and the timeout.  The result comes with the completion, also
 * that of arguments which cannot be: it is -EINVAL.
 */
struct nvme_ng_uring_cmd *nvmeng_prep(struct io_uring_sqe *sqe,
				      const struct nvmeng *dev, __u8 opcode,
				      const struct nvmeng_data *data);

/**
 * nvmeng_prep_read() - prepare Read (02h)
 * @sqe: see nvmeng_prep()
 * @dev: the open node
 * @data: 1 to 65536 blocks of nvmeng_block_size() bytes
 * @lba: first logical block
 *
 * nvmeng_prep_write() (01h) has the same arguments.  Each of the functions
 * below returns the command, see nvmeng_prep().
 */
struct nvme_ng_uring_cmd *nvmeng_prep_read(struct io_uring_sqe *sqe,
					   const struct nvmeng *dev,
					   const struct nvmeng_data *data,
					   __u64 lba);
struct nvme_ng_uring_cmd *nvmeng_prep_write(struct io_uring_sqe *sqe,
					    const struct nvmeng *dev,
					    const struct nvmeng_data *data,
					    __u64 lba);

/**
 * nvmeng_prep_append() - prepare Zone Append (7Dh)
 * @sqe: see nvmeng_prep()
 * @dev: the open node of a zoned namespace
 * @data: 1 to 65536 blocks, at most max_append bytes of the limits
 * @zslba: first logical block of the zone
 *
 * The value of the completion is the first block that was written.
 */
struct nvme_ng_uring_cmd *nvmeng_prep_append(struct io_uring_sqe *sqe,
					     const struct nvmeng *dev,
					     const struct nvmeng_data *data,
					     __u64 zslba);

/**
 * nvmeng_prep_store() - prepare Store (01h) of a Key Value namespace
 * @sqe: see nvmeng_prep()
 * @dev: the open node
 * @data: the value, at most max_value_len bytes of the limits; NULL for an
 *	empty one
 * @key: any bytes
 * @key_len: 1 to NVMENG_KEY_MAX bytes
 * @options: 0 or NVMENG_STORE_* bits
 */
struct nvme_ng_uring_cmd *nvmeng_prep_store(struct io_uring_sqe *sqe,
					    const struct nvmeng *dev,
					    const struct nvmeng_data *data,
					    const void *key, size_t key_len,
					    unsigned int options);

/**
 * nvmeng_prep_retrieve() - prepare Retrieve (02h) of a Key Value namespace
 * @sqe: see nvmeng_prep()
 * @dev: the open node
 * @data: where the value goes
 * @key: any bytes
 * @key_len: 1 to NVMENG_KEY_MAX bytes
 *
 * The value of the completion is the length of the whole value in bytes, which
 * can be more than there is room for.
 */
struct nvme_ng_uring_cmd *nvmeng_prep_retrieve(struct io_uring_sqe *sqe,
					       const struct nvmeng *dev,
					       const struct nvmeng_data *data,
					       const void *key, size_t key_len);

/**
 * nvmeng_prep_list() - prepare List (06h) of a Key Value namespace
 * @sqe: see nvmeng_prep()
 * @dev: the open node
 * @data: where the list goes, see nvmeng_list_init()
 * @key: the list begins with this key, or where it would be
 * @key_len: 0, for the first key there is, to NVMENG_KEY_MAX bytes
 *
 * A list has as many keys as there is room for.
 */
struct nvme_ng_uring_cmd *nvmeng_prep_list(struct io_uring_sqe *sqe,
					   const struct nvmeng *dev,
					   const struct nvmeng_data *data,
					   const void *key, size_t key_len);

/**
 * struct nvmeng_list - a place in what List has returned
 * @next: the next key
 * @left: bytes that follow
 * @keys: keys that follow
 */
struct nvmeng_list {
	const unsigned char *next;
	size_t	left;
	__u32	keys;
};

/**
 * nvmeng_list_init() - begin to read what List has returned
 * @list: out: its beginning
 * @data: the memory, which must last as long as it is read
 * @len: bytes of it
 */
void nvmeng_list_init(struct nvmeng_list *list, const void *data, size_t len);

/**
 * nvmeng_list_next() - the next key of a list
 * @list: where; moves on
 * @key: out: the key, in the memory of the list
 *
 * Returns the length of the key in bytes, or 0 at the end of the list.
 */
size_t nvmeng_list_next(struct nvmeng_list *list, const void **key);

/**
 * nvmeng_prep_delete() - prepare Delete (10h) of a Key Value namespace
 * @sqe: see nvmeng_prep()
 * @dev: the open node
 * @key: any bytes
 * @key_len: 1 to NVMENG_KEY_MAX bytes
 *
 * nvmeng_prep_exist() (14h) has the same arguments.
 */
struct nvme_ng_uring_cmd *nvmeng_prep_delete(struct io_uring_sqe *sqe,
					     const struct nvmeng *dev,
					     const void *key, size_t key_len);
struct nvme_ng_uring_cmd *nvmeng_prep_exist(struct io_uring_sqe *sqe,
					    const struct nvmeng *dev,
					    const void *key, size_t key_len);

/**
 * struct nvmeng_result - how a command ended
 * @user_data: that of its sqe
 * @status: 0, an NVMe status (Status Code Type and Status Code, 0x001 to
 *	0x7ff), or a negative errno
 * @value: dwords 0 and 1 of the NVMe completion
 */
struct nvmeng_result {
	__u64	user_data;
	__u64	value;
	int	status;
};

/**
 * nvmeng_submit() - submit all commands that were prepared, and wait
 * @ring: of nvmeng_ring_init()
 * @wait: completions to wait for, 0 for none
 *
 * One system call for all.  A signal, or a ring that polls and has polled for
 * long, ends the wait early: reap, and come back if that was not enough.  A ring
 * that polls makes progress in here only, and only if all completions were
 * reaped before.
 *
 * Returns the number of commands submitted, or a negative errno: -EINTR if a
 * signal came first, and those of io_uring_enter(2).
 */
int nvmeng_submit(struct io_uring *ring, unsigned int wait);

/**
 * nvmeng_reap() - take the completions that have come
 * @ring: of nvmeng_ring_init()
 * @results: out: at most @max of them
 * @max: 1 or more
 *
 * Returns how many there were.
 */
unsigned int nvmeng_reap(struct io_uring *ring, struct nvmeng_result *results,
			 unsigned int max);

/**
 * nvmeng_run() - submit the one command that was prepared, and wait for it
 * @ring: of nvmeng_ring_init(), with no other command in flight
 * @value: out: dwords 0 and 1 of the completion; or NULL
 *
 * Returns the status as in struct nvmeng_result.
 */
int nvmeng_run(struct io_uring *ring, __u64 *value);

/* what a result is of, for nvmeng_explain() */
enum nvmeng_call {
	NVMENG_OPEN,		/* nvmeng_open(), nvmeng_refresh() */
	NVMENG_MAP,		/* nvmeng_map(), _map_dmabuf(), _unmap() */
	NVMENG_RING,		/* nvmeng_ring_init(), nvmeng_submit() */
	NVMENG_COMMAND,		/* a command, nvmeng_identify() */
};

/**
 * nvmeng_explain() - a result in words
 * @call: what it is of
 * @result: 0, an NVMe status, or a negative errno
 *
 * Returns the name that the NVM Express specifications give to the status, or a
 * sentence for what the errno means here and what to do, without a newline.
 */
const char *nvmeng_explain(enum nvmeng_call call, int result);

#ifdef __cplusplus
}
#endif

#endif /* NVMENG_H */
