package sipconv
import ("testing";"unsafe"
processorpb "github.com/routr-fabric/routr/proto/processor/v2beta1"
sipmessagepb "github.com/routr-fabric/routr/proto/sipmessage/v2beta1")
func TestSizes(t *testing.T){
t.Log("MessageRequest", unsafe.Sizeof(processorpb.MessageRequest{}))
t.Log("NetInterface", unsafe.Sizeof(processorpb.NetInterface{}))
t.Log("SIPMessage", unsafe.Sizeof(sipmessagepb.SIPMessage{}))
t.Log("SipURI", unsafe.Sizeof(sipmessagepb.SipURI{}))
t.Log("Address", unsafe.Sizeof(sipmessagepb.Address{}))
t.Log("From", unsafe.Sizeof(sipmessagepb.From{}))
t.Log("Contact", unsafe.Sizeof(sipmessagepb.Contact{}))
t.Log("Via", unsafe.Sizeof(sipmessagepb.Via{}))
t.Log("CSeq", unsafe.Sizeof(sipmessagepb.CSeq{}))
t.Log("CallID", unsafe.Sizeof(sipmessagepb.CallID{}))
t.Log("CL", unsafe.Sizeof(sipmessagepb.ContentLength{}))
t.Log("Ext", unsafe.Sizeof(sipmessagepb.Extension{}))
t.Log("Auth", unsafe.Sizeof(sipmessagepb.Authorization{}))
t.Log("block", unsafe.Sizeof(block{}))
}
