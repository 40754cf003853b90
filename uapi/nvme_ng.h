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
 *	has none
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
 * less than 16 or more than a page) or EAGAIN (a multipath node has no usable path).
 */
#define NVME_NG_IOCTL_LIMITS	_IOWR('N', 0x60, struct nvme_ng_limits)

#endif /* _UAPI_LINUX_NVME_NG_H */
