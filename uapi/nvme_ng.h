/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * nvme-ng: what the generic NVMe character devices (/dev/ngXnY) offer beyond
 * <linux/nvme_ioctl.h>.
 */
#ifndef _UAPI_LINUX_NVME_NG_H
#define _UAPI_LINUX_NVME_NG_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* struct nvme_ng_limits, member features */
#define NVME_NG_F_SGL		(1U << 0) /* data travels with its length */
#define NVME_NG_F_EXT_LBA	(1U << 1) /* metadata follows each block */
#define NVME_NG_F_POLL		(1U << 2) /* there are queues to poll */
#define NVME_NG_F_REGIONS	(1U << 3) /* memory can be mapped beforehand */

/**
 * struct nvme_ng_limits - what a program needs to form commands
 * @size: in: bytes of this structure that the program knows; out: bytes of it
 *	that the kernel filled in.  Fields beyond either are zero.
 * @flags: in: must be 0
 * @csi: Command Set Identifier (NVM Express Base, Namespace Identification
 *	Descriptor type 4h)
 * @nsid: Namespace Identifier
 * @features: NVME_NG_F_* bits
 * @max_transfer: largest data length of a command in bytes
 * @max_segments: most elements of a vectored command
 * @max_metadata: largest separate metadata length of a command in bytes, 0 if
 *	the namespace has none
 * @dma_alignment: address and length of every segment must be a multiple of
 *	this, or the kernel copies the data; bytes
 * @virt_boundary: every segment but the last must end, and every one but the
 *	first begin, at a multiple of this, or the kernel copies the data;
 *	bytes, 0 if there is no such rule
 * @lba_size: bytes of a logical block without metadata, 0 if the command set
 *	has none, or while the format of the namespace is not known
 * @metadata_size: bytes of metadata of a logical block, 0 if none
 * @pi_type: protection information type, 0 if none
 * @pi_size: bytes of protection information in the metadata of a block
 * @zone_size: logical blocks of a zone, 0 if the namespace is not zoned
 * @max_append: largest Zone Append in bytes, 0 if the namespace is not zoned
 * @max_key_len: largest key of a Key Value namespace in bytes, otherwise 0
 * @max_value_len: largest value of a Key Value namespace in bytes, otherwise 0
 */
struct nvme_ng_limits {
	__u32	size;
	__u32	flags;
	__u32	csi;
	__u32	nsid;
	__u32	features;
	__u32	max_transfer;
	__u32	max_segments;
	__u32	max_metadata;
	__u32	dma_alignment;
	__u32	virt_boundary;
	__u32	lba_size;
	__u16	metadata_size;
	__u8	pi_type;
	__u8	pi_size;
	__u64	zone_size;
	__u32	max_append;
	__u32	max_key_len;
	__u32	max_value_len;
	__u32	rsvd;
};

/**
 * NVME_NG_IOCTL_LIMITS - read the limits of an open /dev/ngXnY
 *
 * Any open descriptor may ask.  Returns 0, or -1 with errno EFAULT (the
 * structure cannot be read or written), EINVAL (@flags is not 0, or @size is
 * less than 16 or more than a page) or EAGAIN (a multipath node has no usable
 * path).  No command is sent: the limits are those that the last scan has read.
 */
#define NVME_NG_IOCTL_LIMITS	_IOWR('N', 0x60, struct nvme_ng_limits)

/* struct nvme_ng_map, member flags */
#define NVME_NG_MAP_READ_ONLY	(1U << 0) /* the device may not write */
#define NVME_NG_MAP_DMABUF	(1U << 1) /* of @dmabuf_fd, not of the process */

/**
 * struct nvme_ng_map - map memory for commands to come
 * @size: in: bytes of this structure that the program knows, at least 40
 * @flags: in: NVME_NG_MAP_* bits
 * @addr: in: start of the memory; with NVME_NG_MAP_DMABUF an offset into the
 *	dma-buf
 * @len: in: bytes, 1 to 1 TiB
 * @dmabuf_fd: in: a dma-buf, or -1 without NVME_NG_MAP_DMABUF; open for writing
 *	unless NVME_NG_MAP_READ_ONLY is set
 * @region: out: handle of the region, never 0
 * @granule: out: bytes; metadata in the region must not cross a multiple of
 *	this in memory, 0 if it may lie anywhere
 * @rsvd: in: must be 0
 */
struct nvme_ng_map {
	__u32	size;
	__u32	flags;
	__u64	addr;
	__u64	len;
	__s32	dmabuf_fd;
	__u32	region;
	__u32	granule;
	__u32	rsvd;
};

/**
 * NVME_NG_IOCTL_MAP - pin memory and map it for DMA
 *
 * The region belongs to the open /dev/ngXnY: it ends with its last descriptor,
 * with NVME_NG_IOCTL_UNMAP, or for good when the controller is removed.  It
 * stays the same when the process unmaps the memory, forks or executes, and
 * over a reset of the controller.  Memory of the process counts towards
 * RLIMIT_MEMLOCK of its user and is part of VmPin of the process; so does all of
 * a dma-buf, once for each file, controller and direction.
 *
 * The exporter of a dma-buf may take the memory back: commands in flight go on,
 * no other finds the region, and the handle stays.
 *
 * Returns 0, or -1 with errno EFAULT (the structure or the memory cannot be
 * read or, without NVME_NG_MAP_READ_ONLY, written, or is then that of a file
 * that is written back), EINVAL (a field that cannot be, or a dma-buf with
 * pieces that the controller cannot take), EBADF (no such descriptor), EACCES
 * (a dma-buf that is not open for writing), ENOMEM (no memory, or beyond
 * RLIMIT_MEMLOCK), EMFILE (65535 regions, with those that were unmapped and
 * wait for commands in flight), EOPNOTSUPP (the device cannot reach this memory
 * without copies, or is not a PCIe controller),
 * ENODEV (the controller is gone, or the exporter has taken the dma-buf back),
 * EAGAIN (a multipath node has no usable path), EINTR, or what pinning the
 * memory or the exporter of the dma-buf fails with.
 */
#define NVME_NG_IOCTL_MAP	_IOWR('N', 0x61, struct nvme_ng_map)

/**
 * NVME_NG_IOCTL_UNMAP - end a region
 *
 * The argument points to the handle, __u32.  No command finds the region any
 * more.  Those in flight go on; the memory is let go when they have completed,
 * which is before this returns if there are none.
 *
 * Returns 0, or -1 with errno EFAULT or ENOENT (no such region).
 */
#define NVME_NG_IOCTL_UNMAP	_IOW('N', 0x62, __u32)

/**
 * struct nvme_ng_uring_cmd - a command with its data in a region
 * @opcode: of any I/O command
 * @flags: must be 0
 * @rsvd1: must be 0
 * @nsid: Namespace Identifier
 * @cdw2: Command Dword 2
 * @cdw3: Command Dword 3
 * @metadata: offset of separate metadata in @meta_region, in bytes
 * @addr: offset of the data in @region, in bytes; of NVME_NG_URING_CMD_IO_VEC
 *	the address of an array of struct nvme_ng_segment
 * @metadata_len: bytes of metadata
 * @data_len: bytes of data; elements of the array
 * @cdw10: Command Dword 10
 * @cdw11: Command Dword 11
 * @cdw12: Command Dword 12
 * @cdw13: Command Dword 13
 * @cdw14: Command Dword 14
 * @cdw15: Command Dword 15
 * @timeout_ms: milliseconds until the command is aborted, 0 for the default;
 *	without CAP_SYS_ADMIN from once to four times the default
 * @rsvd2: must be 0
 * @region: handle from NVME_NG_IOCTL_MAP; 0 for a command without data, and
 *	for NVME_NG_URING_CMD_IO_VEC
 * @meta_region: handle of the region with the metadata, 0 without metadata
 *
 * The first 72 bytes are those of struct nvme_uring_cmd.
 */
struct nvme_ng_uring_cmd {
	__u8	opcode;
	__u8	flags;
	__u16	rsvd1;
	__u32	nsid;
	__u32	cdw2;
	__u32	cdw3;
	__u64	metadata;
	__u64	addr;
	__u32	metadata_len;
	__u32	data_len;
	__u32	cdw10;
	__u32	cdw11;
	__u32	cdw12;
	__u32	cdw13;
	__u32	cdw14;
	__u32	cdw15;
	__u32	timeout_ms;
	__u32	rsvd2;
	__u32	region;
	__u32	meta_region;
};

/**
 * struct nvme_ng_segment - part of the data of a vectored command
 * @region: handle from NVME_NG_IOCTL_MAP
 * @len: bytes; a segment of 0 is passed over
 * @offset: in the region, in bytes
 */
struct nvme_ng_segment {
	__u32	region;
	__u32	len;
	__u64	offset;
};

/*
 * The commands, by IORING_OP_URING_CMD with big entries on both sides.  They
 * complete as those of <linux/nvme_ioctl.h> do: with an NVMe status, 0 or a
 * negative errno, and dwords 0 and 1 of the NVMe completion.  Of errno, ENOENT
 * stands for a region that does not exist, or whose dma-buf was taken back,
 * EFAULT for data outside of its region, or that the device is to write into a
 * read-only one, and EINVAL for an address or a length that the controller
 * cannot take as it is: nothing is copied.
 */
#define NVME_NG_URING_CMD_IO		_IOWR('N', 0x90, struct nvme_ng_uring_cmd)
#define NVME_NG_URING_CMD_IO_VEC	_IOWR('N', 0x91, struct nvme_ng_uring_cmd)

/* Many commands by one entry of io_uring */

/**
 * struct nvme_ng_ring_head - the beginning of a completion ring
 * @tail: completions that were posted, by the kernel only; an entry is complete
 *	before it is counted
 * @rsvd1: not used
 * @head: completions that the program has taken, by the program only
 * @rsvd2: not used
 *
 * The entries follow; completion N is entry N modulo their number.  Both
 * counters start at 0 and wrap.
 */
struct nvme_ng_ring_head {
	__u32	tail;
	__u32	rsvd1[15];
	__u32	head;
	__u32	rsvd2[15];
};

/**
 * struct nvme_ng_ring_entry - the end of a command of an array
 * @tag: &struct nvme_ng_array_cmd.tag of the command
 * @result: dwords 0 and 1 of the NVMe completion
 * @status: NVMe status, 0 or a negative errno
 * @rsvd: not written
 */
struct nvme_ng_ring_entry {
	__u64	tag;
	__u64	result;
	__s32	status;
	__u32	rsvd[3];
};

/**
 * struct nvme_ng_ring - make a completion ring
 * @size: in: bytes of this structure that the program knows, at least 32
 * @flags: in: must be 0
 * @addr: in: memory of the ring, at the beginning of a page: a struct
 *	nvme_ng_ring_head and the entries; all zero
 * @entries: in: number of entries, a power of two from 2 to 65536
 * @entry_size: in: bytes of an entry, sizeof(struct nvme_ng_ring_entry)
 * @ring: out: handle of the ring, never 0
 * @rsvd: in: must be 0
 */
struct nvme_ng_ring {
	__u32	size;
	__u32	flags;
	__u64	addr;
	__u32	entries;
	__u32	entry_size;
	__u32	ring;
	__u32	rsvd;
};

/**
 * NVME_NG_IOCTL_RING - make memory of the program a completion ring
 *
 * The ring belongs to the open /dev/ngXnY, and ends with its last descriptor.
 * Its pages are pinned, and charged as those of a region are.
 *
 * Returns 0, or -1 with errno EFAULT (the structure cannot be read or written,
 * or the memory not written), EINVAL (a field that cannot be), ENOMEM (no
 * memory, or beyond RLIMIT_MEMLOCK), EMFILE (64 rings), EOPNOTSUPP (not a PCIe
 * controller), ENODEV, EAGAIN (a multipath node has no usable path) or EINTR.
 */
#define NVME_NG_IOCTL_RING	_IOWR('N', 0x63, struct nvme_ng_ring)

/**
 * struct nvme_ng_array_cmd - a command of an array
 * @cmd: as of NVME_NG_URING_CMD_IO
 * @tag: what the program knows it by, any value
 */
struct nvme_ng_array_cmd {
	struct nvme_ng_uring_cmd	cmd;
	__u64				tag;
};

/**
 * struct nvme_ng_uring_array - commands in one entry of io_uring
 * @addr: address of an array of struct nvme_ng_array_cmd, a multiple of 8
 * @nr: number of its elements, from 1 to 4096
 * @cmd_size: bytes of an element, sizeof(struct nvme_ng_array_cmd)
 * @ring: handle from NVME_NG_IOCTL_RING
 * @flags: must be 0
 * @rsvd: must be 0
 */
struct nvme_ng_uring_array {
	__u64	addr;
	__u32	nr;
	__u32	cmd_size;
	__u32	ring;
	__u32	flags;
	__u64	rsvd[7];
};

/*
 * Commands of an array are taken in order, and checked as single ones are.  One
 * that is refused ends with its errno, and does not keep those after it from
 * being taken.  EOPNOTSUPP stands for a command that has to be sent by itself:
 * it has effects that others wait for, or data that takes a list.  Each that
 * was taken ends once, by an entry of the completion ring that is posted when
 * it completes.
 *
 * The entry of io_uring completes when all that were taken have ended, with
 * their number, which is less than @nr if what follows came up in the middle; or
 * with a negative errno, and none was taken: EAGAIN (no room now, the namespace
 * is being frozen, the controller reset, or commands of before an unmap are in
 * flight; if nothing is in flight, a command that is sent by itself waits for what
 * has to be waited for), EBUSY (the completion ring has commands in flight on
 * another queue), ENOENT (no such ring), EFAULT (the array cannot be read), EINVAL
 * (a field that cannot be), EINTR, ENOMEM, ENODEV (the controller is gone) or
 * EOPNOTSUPP (the controller has no such queue for rings).  A linked entry goes
 * on after an array of which less was taken.
 */
#define NVME_NG_URING_CMD_ARRAY		_IOWR('N', 0x92, struct nvme_ng_uring_array)

#endif /* _UAPI_LINUX_NVME_NG_H */
