/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The test bed's exporter of dma-bufs, which does what is hard to bring others
 * to do.  An open /dev/dmabuf_exporter is one dma-buf.
 */
#ifndef DMABUF_EXPORTER_H
#define DMABUF_EXPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* struct exporter_make, member flags */
#define EXPORTER_PINS	1	/* it may move, and is pinned for who cannot */
#define EXPORTER_MOVES	2	/* a pin moves it, until EXPORTER_SETTLE */
#define EXPORTER_LONG	4	/* made-up pieces of 2^32 - 1 bytes that touch */
#define EXPORTER_ODD	8	/* made-up pieces that do not meet at pages */

/**
 * struct exporter_make - make the dma-buf
 * @flags: in: EXPORTER_* bits
 * @mode: in: O_RDWR or O_RDONLY
 * @size: in: bytes, whole pages
 */
struct exporter_make {
	__u32	flags;
	__u32	mode;
	__u64	size;
};

/**
 * struct exporter_state - who has the dma-buf
 * @attached: attachments
 * @pinned: of these pinned
 * @mapped: mappings
 * @writable: of these the device may write to
 */
struct exporter_state {
	__u32	attached;
	__u32	pinned;
	__u32	mapped;
	__u32	writable;
};

/* Returns a descriptor of the dma-buf, whose bytes are 11h. */
#define EXPORTER_MAKE	_IOW('X', 0, struct exporter_make)
/* It has been moved; its bytes are EEh. */
#define EXPORTER_SETTLE	_IO('X', 1)
/*
 * Take it back: tell who has it, and wait as exporters do, with the reservation
 * locked until no fence is left, and then until no mapping is.  ETIMEDOUT if
 * either takes more than a minute.  There are no new mappings afterwards.
 */
#define EXPORTER_REVOKE	_IO('X', 2)
/* Let it be mapped again. */
#define EXPORTER_RESTORE _IO('X', 3)
#define EXPORTER_STATE	_IOR('X', 4, struct exporter_state)

#endif /* DMABUF_EXPORTER_H */
