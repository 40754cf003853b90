// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: who may send which command through a character device, and how
 * much memory a command can make the controller touch.
 */
#include <linux/capability.h>
#include "ng.h"

/*
 * Admin commands for what the driver manages: refused to everybody.  They make
 * or remove queues, have the controller write to memory for good, or wait for
 * an event in the place of the driver.
 */
static bool nvme_ng_admin_is_drivers(u8 opcode)
{
	switch (opcode) {
	case nvme_admin_delete_sq:
	case nvme_admin_create_sq:
	case nvme_admin_delete_cq:
	case nvme_admin_create_cq:
	case nvme_admin_async_event:
	case nvme_admin_dbbuf:
		return true;
	default:
		return false;
	}
}

/* Set Features that change what the driver manages: refused to everybody */
static bool nvme_ng_feature_is_drivers(struct nvme_ctrl *ctrl, u8 fid)
{
	switch (fid) {
	case NVME_FEAT_KATO:
		return !(ctrl->ops->flags & NVME_F_FABRICS);
	case NVME_FEAT_HOST_BEHAVIOR:
	case NVME_FEAT_HOST_MEM_BUF:
	case NVME_FEAT_NUM_QUEUES:
	case NVME_FEAT_AUTO_PST:
		return true;
	default:
		return false;
	}
}

/*
 * Identify, Get Log Page and Get Features are free where they only describe
 * the device.  What a program could as well read in sysfs, but libraries ask
 * the controller for, is for descriptors that are open for writing: others are
 * refused it on every kernel, and programs rely on that.
 */
static bool nvme_ng_admin_allowed(struct nvme_ctrl *ctrl,
				  const struct nvme_command *cmd, bool write)
{
	switch (cmd->common.opcode) {
	case nvme_admin_identify:
		/* what a program needs to form commands, and no more */
		switch (cmd->identify.cns) {
		case NVME_ID_CNS_NS:
		case NVME_ID_CNS_CTRL:
		case NVME_ID_CNS_CS_NS:
		case NVME_ID_CNS_CS_CTRL:
		case NVME_ID_CNS_NS_CS_INDEP:
			return true;
		case NVME_ID_CNS_NS_DESC_LIST:
			if (write)
				return true;
		}
		break;
	case nvme_admin_get_log_page:
		if (cmd->get_log_page.lid == NVME_LOG_CMD_EFFECTS && write)
			return true;
		break;
	case nvme_admin_get_features:
		if ((le32_to_cpu(cmd->features.fid) & 0xff) ==
		    NVME_FEAT_VOLATILE_WC && write)
			return true;
		break;
	case nvme_admin_set_features:
		if (nvme_ng_feature_is_drivers(ctrl,
					       le32_to_cpu(cmd->features.fid) & 0xff))
			return false;
		break;
	}
	return capable(CAP_SYS_ADMIN);
}

/**
 * nvme_ng_io_is_free - may an I/O command be sent without privilege
 * @ctrl: the controller
 * @ns: the namespace
 * @opcode: opcode of the command
 * @write: the descriptor is open for writing
 */
bool nvme_ng_io_is_free(struct nvme_ctrl *ctrl, struct nvme_ns *ns, u8 opcode,
			bool write)
{
	bool changes;
	u32 effects;

	/* vendor specific or fabrics: nobody can know what it does */
	if (opcode >= 0x80 || opcode == nvme_fabrics_command)
		return false;
	/* it ends commands of others */
	if (opcode == NVME_NG_CANCEL)
		return false;
	effects = nvme_command_effects(ctrl, ns, opcode);
	if (!(effects & NVME_CMD_EFFECTS_CSUPP))
		return false;
	/* bits 31:20 are the scope, which is no effect */
	if (effects & ~(NVME_CMD_EFFECTS_CSUPP | NVME_CMD_EFFECTS_LBCC |
			NVME_CMD_EFFECTS_UUID_SEL | GENMASK(31, 20)))
		return false;

	changes = (opcode & 1) || (effects & NVME_CMD_EFFECTS_LBCC);
	/* what a device may forget to tell */
	switch (ns->head->ids.csi) {
	case NVME_NG_CSI_KV:
		changes |= opcode == nvme_ng_kv_delete;
		break;
	case NVME_CSI_NVM:
	case NVME_CSI_ZNS:
		changes |= opcode == nvme_cmd_write_uncor ||
			opcode == nvme_cmd_write_zeroes;
		break;
	}
	return write || !changes;
}

/**
 * nvme_ng_allowed - may the current process send this command
 * @ctrl: the controller
 * @ns: the namespace of an I/O command, or NULL for an admin command
 * @cmd: the command
 * @write: the descriptor is open for writing
 *
 * Documentation/access.rst has the same rules as a table.  The caller answers
 * -EACCES where this is false.
 */
bool nvme_ng_allowed(struct nvme_ctrl *ctrl, struct nvme_ns *ns,
		     const struct nvme_command *cmd, bool write)
{
	u8 opcode = cmd->common.opcode;

	if (ns)
		return nvme_ng_io_is_free(ctrl, ns, opcode, write) ||
			capable(CAP_SYS_ADMIN);
	if (nvme_ng_admin_is_drivers(opcode))
		return false;
	if (opcode >= 0x80 || opcode == nvme_fabrics_command)
		return capable(CAP_SYS_ADMIN);
	return nvme_ng_admin_allowed(ctrl, cmd, write);
}

/* Data and metadata of a Number of Logical Blocks, NVM and ZNS command sets */
static bool nvme_ng_moves_blocks(struct nvme_ns *ns,
				 const struct nvme_command *cmd)
{
	u8 csi = ns->head->ids.csi;

	switch (cmd->common.opcode) {
	case nvme_cmd_zone_append:
		return csi == NVME_CSI_ZNS;
	case nvme_cmd_read:
	case nvme_cmd_write:
	case nvme_cmd_compare:
		return csi == NVME_CSI_NVM || csi == NVME_CSI_ZNS;
	default:
		return false;
	}
}

/* NVM Command Set and Zoned Namespace Command Set specifications */
static bool nvme_ng_nvm_length(struct nvme_ns *ns,
			       const struct nvme_command *cmd, u64 *data, u64 *meta)
{
	u32 format = nvme_ng_block_format(ns);
	u32 shift = nvme_ng_format_shift(format);
	u16 ms = nvme_ng_format_ms(format);
	u64 nr;

	switch (cmd->common.opcode) {
	case nvme_cmd_dsm:
		*data = ((le32_to_cpu(cmd->common.cdw10) & 0xff) + 1) *
			sizeof(struct nvme_dsm_range);
		return true;
	case nvme_cmd_zone_mgmt_send:
		/* Set Zone Descriptor Extension is the one with data */
		return ns->head->ids.csi == NVME_CSI_ZNS &&
			(le32_to_cpu(cmd->common.cdw13) & 0xff) != 0x10;
	case nvme_cmd_zone_mgmt_recv:
		*data = ((u64)le32_to_cpu(cmd->common.cdw12) + 1) * 4;
		return ns->head->ids.csi == NVME_CSI_ZNS;
	default:
		break;
	}

	/* the format is not known, or one that no block device could have */
	if (!nvme_ng_moves_blocks(ns, cmd) || !shift)
		return false;
	nr = (le32_to_cpu(cmd->common.cdw12) & 0xffff) + 1;
	*data = nr << shift;
	/* without protection information PRACT means nothing */
	if (ms && !((le32_to_cpu(cmd->common.cdw12) >> 16) &
		    NVME_RW_PRINFO_PRACT && format & NVME_NG_FORMAT_PI)) {
		if (format & NVME_NG_FORMAT_EXT)
			*data += nr * ms;
		else
			*meta = nr * ms;
	}
	return true;
}

/* NVM Express Key Value Command Set specification */
static bool nvme_ng_kv_length(const struct nvme_command *cmd, u64 *data)
{
	switch (cmd->common.opcode) {
	case nvme_ng_kv_store:
	case nvme_ng_kv_retrieve:
	case nvme_ng_kv_list:
		*data = le32_to_cpu(cmd->common.cdw10);
		return true;
	default:
		return false;
	}
}

/**
 * nvme_ng_cmd_length - what a command can make the controller transfer
 * @ns: the namespace, or NULL for an admin command
 * @cmd: the command
 * @data: set to the bytes of data
 * @meta: set to the bytes of separate metadata
 *
 * Return: false if that is not known for this command.
 */
bool nvme_ng_cmd_length(struct nvme_ns *ns, const struct nvme_command *cmd,
			u64 *data, u64 *meta)
{
	*data = 0;
	*meta = 0;
	if (!ns) {
		switch (cmd->common.opcode) {
		case nvme_admin_identify:
			*data = NVME_IDENTIFY_DATA_SIZE;
			return true;
		case nvme_admin_get_log_page:
			*data = (((u64)le16_to_cpu(cmd->get_log_page.numdu) << 16 |
				  le16_to_cpu(cmd->get_log_page.numdl)) + 1) * 4;
			return true;
		default:
			return false;
		}
	}
	if (!nvme_ng_moves_data(cmd))
		return true;
	/* it may be another namespace by now, of another command set */
	if (!(nvme_ng_block_format(ns) & NVME_NG_FORMAT_KNOWN))
		return false;

	/* the same in every command set, NVM Express Base specification */
	switch (cmd->common.opcode) {
	case nvme_cmd_resv_register:
	case nvme_cmd_resv_acquire:
		*data = 16;
		return true;
	case nvme_cmd_resv_release:
		*data = 8;
		return true;
	case nvme_cmd_resv_report:
		*data = ((u64)le32_to_cpu(cmd->common.cdw10) + 1) * 4;
		return true;
	}

	switch (ns->head->ids.csi) {
	case NVME_CSI_NVM:
	case NVME_CSI_ZNS:
		return nvme_ng_nvm_length(ns, cmd, data, meta);
	case NVME_NG_CSI_KV:
		return nvme_ng_kv_length(cmd, data);
	default:
		return false;
	}
}

/**
 * nvme_ng_metadata_unknown - may a command move metadata of an unknown length
 * @ns: the namespace
 * @cmd: the command, whose length nvme_ng_cmd_length() did not know
 *
 * A controller that takes SGLs is told the length of the data only.
 */
bool nvme_ng_metadata_unknown(struct nvme_ns *ns,
			      const struct nvme_command *cmd)
{
	u32 format = nvme_ng_block_format(ns);

	if (!(format & NVME_NG_FORMAT_KNOWN))
		return true;
	return nvme_ng_moves_blocks(ns, cmd) &&
		!nvme_ng_format_is_plain(format) &&
		!(format & NVME_NG_FORMAT_EXT);
}

/**
 * nvme_ng_use_scratch - let metadata that no program wants go nowhere
 * @ns: the namespace
 * @cmd: the command; its metadata pointer is set
 * @len: bytes of metadata that it moves
 *
 * Return: false if there is not that much.
 */
bool nvme_ng_use_scratch(struct nvme_ns *ns, struct nvme_command *cmd, u64 len)
{
	const struct nvme_ng_scratch *s =
		READ_ONCE(container_of(ns, struct nvme_ng_ns, ns)->scratch);

	if (!s || len > s->len)
		return false;
	cmd->common.metadata = cpu_to_le64(cmd->common.opcode & 1 ?
					   s->zeros_dma : s->sink_dma);
	return true;
}
