// SPDX-License-Identifier: LGPL-2.1-or-later
/* Results in words. */
#include <errno.h>
#include <string.h>

#include "private.h"

/* By Status Code Type and Status Code, as NVM Express names them. */
static const struct {
	int status;
	const char *name;
} names[] = {
	{ 0x000, "Successful Completion" },
	{ 0x001, "Invalid Command Opcode" },
	{ 0x002, "Invalid Field in Command" },
	{ 0x003, "Command ID Conflict" },
	{ 0x004, "Data Transfer Error" },
	{ 0x005, "Commands Aborted due to Power Loss Notification" },
	{ 0x006, "Internal Error" },
	{ 0x007, "Command Abort Requested" },
	{ 0x008, "Command Aborted due to SQ Deletion" },
	{ 0x009, "Command Aborted due to Failed Fused Command" },
	{ 0x00a, "Command Aborted due to Missing Fused Command" },
	{ 0x00b, "Invalid Namespace or Format" },
	{ 0x00c, "Command Sequence Error" },
	{ 0x00d, "Invalid SGL Segment Descriptor" },
	{ 0x00e, "Invalid Number of SGL Descriptors" },
	{ 0x00f, "Data SGL Length Invalid" },
	{ 0x010, "Metadata SGL Length Invalid" },
	{ 0x011, "SGL Descriptor Type Invalid" },
	{ 0x012, "Invalid Use of Controller Memory Buffer" },
	{ 0x013, "PRP Offset Invalid" },
	{ 0x014, "Atomic Write Unit Exceeded" },
	{ 0x015, "Operation Denied" },
	{ 0x016, "SGL Offset Invalid" },
	{ 0x018, "Host Identifier Inconsistent Format" },
	{ 0x019, "Keep Alive Timer Expired" },
	{ 0x01a, "Keep Alive Timeout Invalid" },
	{ 0x01b, "Command Aborted due to Preempt and Abort" },
	{ 0x01c, "Sanitize Failed" },
	{ 0x01d, "Sanitize In Progress" },
	{ 0x01e, "SGL Data Block Granularity Invalid" },
	{ 0x01f, "Command Not Supported for Queue in CMB" },
	{ 0x020, "Namespace is Write Protected" },
	{ 0x021, "Command Interrupted" },
	{ 0x022, "Transient Transport Error" },
	{ 0x080, "LBA Out of Range" },
	{ 0x081, "Capacity Exceeded" },
	{ 0x082, "Namespace Not Ready" },
	{ 0x083, "Reservation Conflict" },
	{ 0x084, "Format In Progress" },
	{ 0x085, "Invalid Value Size" },
	{ 0x086, "Invalid Key Size" },
	{ 0x087, "KV Key Does Not Exist" },
	{ 0x088, "Unrecovered Error" },
	{ 0x089, "Key Exists" },
	{ 0x180, "Conflicting Attributes" },
	{ 0x181, "Invalid Protection Information" },
	{ 0x182, "Attempted Write to Read Only Range" },
	{ 0x183, "Command Size Limit Exceeded" },
	{ 0x1b8, "Zoned Boundary Error" },
	{ 0x1b9, "Zone Is Full" },
	{ 0x1ba, "Zone Is Read Only" },
	{ 0x1bb, "Zone Is Offline" },
	{ 0x1bc, "Zone Invalid Write" },
	{ 0x1bd, "Too Many Active Zones" },
	{ 0x1be, "Too Many Open Zones" },
	{ 0x1bf, "Invalid Zone State Transition" },
	{ 0x280, "Write Fault" },
	{ 0x281, "Unrecovered Read Error" },
	{ 0x282, "End-to-end Guard Check Error" },
	{ 0x283, "End-to-end Application Tag Check Error" },
	{ 0x284, "End-to-end Reference Tag Check Error" },
	{ 0x285, "Compare Failure" },
	{ 0x286, "Access Denied" },
	{ 0x287, "Deallocated or Unwritten Logical Block" },
	{ 0x288, "End-to-end Storage Tag Check Error" },
	{ 0x300, "Internal Path Error" },
	{ 0x301, "Asymmetric Access Persistent Loss" },
	{ 0x302, "Asymmetric Access Inaccessible" },
	{ 0x303, "Asymmetric Access Transition" },
	{ 0x360, "Controller Pathing Error" },
	{ 0x370, "Host Pathing Error" },
	{ 0x371, "Command Aborted By Host" },
};

/* What nvme-ng(4) and the pages it names say. */
static const struct {
	enum nvmeng_call call;
	int error;
	const char *text;
} sentences[] = {
	{ NVMENG_OPEN, EACCES,
	  "the mode of the node does not let you: ask the administrator for a udev rule, or open it for reading only" },
	{ NVMENG_OPEN, EPERM,
	  "the node may not be opened here: a container must be given the device" },
	{ NVMENG_OPEN, ENOENT,
	  "there is no such node: 'ngctl list' names those there are" },
	{ NVMENG_OPEN, ENXIO,
	  "the namespace of the node is gone: a controller that came back has new nodes" },
	{ NVMENG_OPEN, ENODEV,
	  "the namespace of the node is gone: a controller that came back has new nodes" },
	{ NVMENG_OPEN, ENOTTY,
	  "not the /dev/ngXnY of a namespace, or the driver is not nvme-ng: 'ngctl doctor' tells" },
	{ NVMENG_OPEN, EAGAIN,
	  "no controller of this multipath namespace can be reached now: try again" },

	{ NVMENG_MAP, EACCES,
	  "the dma-buf is not open for writing: map it read only" },
	{ NVMENG_MAP, EAGAIN,
	  "no controller of this multipath namespace can be reached now: try again" },
	{ NVMENG_MAP, EFAULT,
	  "the memory is not there, or cannot be written, or is that of a file that is written back: map it read only" },
	{ NVMENG_MAP, EINVAL,
	  "length 0 or more than 1 TiB, an unknown flag, or beyond the end of the dma-buf, or pieces of it that the controller cannot take" },
	{ NVMENG_MAP, EMFILE,
	  "this open node has 65535 regions: unmap some" },
	{ NVMENG_MAP, ENODEV,
	  "the controller is gone, or the exporter of the dma-buf has taken it back" },
	{ NVMENG_MAP, ENOENT, "there is no such region" },
	{ NVMENG_MAP, ENOMEM,
	  "no memory, or more than you may lock: raise RLIMIT_MEMLOCK (ulimit -l)" },
	{ NVMENG_MAP, ENOTTY,
	  "the driver is not nvme-ng: 'ngctl doctor' tells" },
	{ NVMENG_MAP, EOPNOTSUPP,
	  "the controller is not a PCIe one, or reaches memory through copies only (swiotlb): send commands without regions" },

	{ NVMENG_RING, EPERM,
	  "io_uring is not for you: see the sysctl kernel.io_uring_disabled" },
	{ NVMENG_RING, ENOSYS,
	  "the kernel has no io_uring, or a filter of system calls forbids it" },
	{ NVMENG_RING, EINVAL,
	  "the kernel does not know a flag of the ring, or the number of entries cannot be: Linux 6.1 is needed" },
	{ NVMENG_RING, ENOMEM,
	  "no memory, or more than you may lock: raise RLIMIT_MEMLOCK (ulimit -l)" },
	{ NVMENG_RING, EEXIST, "the ring belongs to another thread" },
	{ NVMENG_RING, EBUSY,
	  "more completions wait than the ring has room for: reap them first" },
	{ NVMENG_RING, EINTR, "a signal came first: try again" },

	{ NVMENG_COMMAND, EACCES,
	  "the node is not open for writing, or the command takes CAP_SYS_ADMIN: 'ngctl doctor NODE --opcode N' tells" },
	{ NVMENG_COMMAND, EAGAIN,
	  "no controller of this multipath namespace can be reached now, or the exporter of a dma-buf moves it: try again" },
	{ NVMENG_COMMAND, EFAULT,
	  "data outside of its region or of memory, or a read-only region for a command that returns data" },
	{ NVMENG_COMMAND, EINTR,
	  "the controller was reset or removed before it completed the command, which it may have executed" },
	{ NVMENG_COMMAND, EINVAL,
	  "a field that cannot be, more data than the limits say, no whole number of blocks, or an alignment that the controller cannot take" },
	{ NVMENG_COMMAND, EIO, "the block layer gave up on the command" },
	{ NVMENG_COMMAND, ENODEV, "the namespace or its controller is gone" },
	{ NVMENG_COMMAND, ENOENT,
	  "there is no such region, or the exporter of its dma-buf has taken it back" },
	{ NVMENG_COMMAND, ENOMEM, "there is no memory" },
	{ NVMENG_COMMAND, ENOTTY,
	  "no node of a PCIe controller's namespace, or the driver is not nvme-ng: 'ngctl doctor' tells" },
	{ NVMENG_COMMAND, EOPNOTSUPP,
	  "the ring has no big entries (use nvmeng_ring_init()), or polls where the driver cannot" },
};

const char *nvmeng_explain(enum nvmeng_call call, int result)
{
	const char *text;
	size_t i;

	if (result >= 0) {
		for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
			if (names[i].status == (result & NVMENG_STATUS))
				return names[i].name;
		}
		return (result & 0x700) == 0x700 ? "Vendor Specific" :
						   "Unknown Status";
	}
	for (i = 0; i < sizeof(sentences) / sizeof(*sentences); i++) {
		if (sentences[i].call == call && sentences[i].error == -result)
			return sentences[i].text;
	}
	text = strerrordesc_np(-result);
	return text ? text : "Unknown error";
}
