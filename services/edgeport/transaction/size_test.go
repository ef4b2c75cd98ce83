package transaction
import ("testing";"unsafe"
"github.com/routr-fabric/routr/services/edgeport/message"
"github.com/routr-fabric/routr/services/edgeport/transport"
)
func TestSizes(t *testing.T){
t.Log("Server", unsafe.Sizeof(Server{}))
t.Log("Client", unsafe.Sizeof(Client{}))
t.Log("timer", unsafe.Sizeof(timer{}))
t.Log("Flow", unsafe.Sizeof(transport.Flow{}))
t.Log("Message", unsafe.Sizeof(message.Message{}))
t.Log("Via", unsafe.Sizeof(message.Via{}))
}
